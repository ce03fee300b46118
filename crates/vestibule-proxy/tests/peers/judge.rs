//! What two outcomes differ in, as far as it matters: who takes what, and what is passed on.

use std::collections::BTreeSet;

use crate::asking::{Case, End, Outcome, Proxy};
use crate::recorder::Message;

/// Fields that a proxy adds or writes anew for itself.
const OWN_FIELDS: [&str; 15] = [
    "connection",
    "content-length",
    "date",
    "forwarded",
    "host",
    "server",
    "transfer-encoding",
    "via",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-upstream-service-time",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];

/// Names how our outcome differs from those of the named others.
pub type Judge = fn(&Outcome, &[(&str, &Outcome)]) -> Vec<String>;

/// Runs the cases through all, and tells every difference between ours (the first) and the others: `case aspect
/// details`.
pub fn compare(proxies: &[Proxy], cases: &[Case], judge: Judge) -> Vec<(String, String)> {
    let first = once(proxies, cases, judge);
    // A peer that uses a connection again while its backend closes it fails once. What differs every time counts.
    let again: Vec<Case> =
        cases.iter().filter(|case| first.iter().any(|(name, _)| *name == case.name)).cloned().collect();
    let second = once(proxies, &again, judge);
    let aspect = |difference: &str| difference.split_whitespace().next().map(str::to_owned);
    let stays = |(name, difference): &(String, String)| {
        second.iter().any(|(other, found)| other == name && aspect(found) == aspect(difference))
    };
    first.into_iter().filter(stays).collect()
}

fn once(proxies: &[Proxy], cases: &[Case], judge: Judge) -> Vec<(String, String)> {
    let runs = std::thread::scope(|scope| {
        let runs: Vec<_> = proxies.iter().map(|proxy| scope.spawn(|| proxy.run(cases))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let theirs: Vec<_> =
            (1..proxies.len()).map(|proxy| (proxies[proxy].name, &runs[proxy][index])).collect();
        let found = judge(&runs[0][index], &theirs);
        all.extend(found.into_iter().map(|difference| (case.name.clone(), difference)));
    }
    all
}

impl Outcome {
    /// Something of the case reached the backend as a whole request.
    pub fn is_taken(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The status of the last answer that was no interim one; 0: there was none.
    pub fn status(&self) -> u16 {
        self.replies.iter().map(Message::status).rfind(|status| *status >= 200).unwrap_or(0)
    }
}

/// Names of those of `theirs` for which `test` holds, as `(a,b)`.
fn who<'a>(
    theirs: &[(&'a str, &Outcome)],
    test: impl Fn(&Outcome) -> bool,
) -> Option<(Vec<&'a str>, String)> {
    let names: Vec<&str> =
        theirs.iter().filter(|(_, outcome)| test(outcome)).map(|(name, _)| *name).collect();
    if names.is_empty() { None } else { Some((names.clone(), format!("({})", names.join(",")))) }
}

/// Cases on the way to the backend.
pub fn requests(ours: &Outcome, theirs: &[(&str, &Outcome)]) -> Vec<String> {
    let mut all = Vec::new();
    if !ours.is_taken() {
        if theirs.iter().all(|(_, outcome)| outcome.is_taken()) {
            all.push(format!("stricter we answer {}", ours.status()));
        }
        let envoy = theirs[0].1;
        if !envoy.is_taken() && (ours.status(), ours.end) != (envoy.status(), envoy.end) {
            let (a, b) = ((ours.status(), ours.end), (envoy.status(), envoy.end));
            all.push(format!("status({},{}) ours {a:?}, Envoy's {b:?}", a.0, b.0));
        }
        return all;
    }
    if let Some((_, names)) = who(theirs, |outcome| !outcome.is_taken()) {
        let their: Vec<u16> = theirs.iter().map(|(_, outcome)| outcome.status()).collect();
        all.push(format!("laxer{names} they answer {their:?}, we pass on {:?}", ours.requests));
    }
    let taking: Vec<_> = theirs.iter().filter(|(_, outcome)| outcome.is_taken()).copied().collect();
    if ours.end == End::InStep
        && let Some((_, names)) = who(&taking, |outcome| outcome.end != End::InStep)
    {
        all.push(format!("goes-on{names}"));
    }
    if ours.end != End::InStep && !taking.is_empty() && taking.iter().all(|(_, o)| o.end == End::InStep) {
        all.push(format!("ends we: {:?} {}", ours.end, ours.status()));
    }
    if let Some((_, names)) = who(&taking, |outcome| outcome.requests.len() != ours.requests.len()) {
        all.push(format!("count{names} ours {:?}", ours.requests));
        return all;
    }
    for (index, request) in ours.requests.iter().enumerate() {
        passed_on(request, &taking, |outcome| &outcome.requests[index], &mut all);
    }
    all
}

/// One message of ours beside the same of the others.
fn passed_on<'o>(
    message: &Message,
    theirs: &[(&str, &'o Outcome)],
    of: impl Fn(&'o Outcome) -> &'o Message,
    all: &mut Vec<String>,
) {
    let mut differing = |aspect: &str, only_envoy: bool, part: &dyn Fn(&Message) -> String| {
        let ours = part(message);
        let others = theirs.iter().filter(|(name, _)| !only_envoy || *name == "envoy");
        let found: Vec<_> = others.filter(|(_, outcome)| part(of(outcome)) != ours).collect();
        if !found.is_empty() {
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            let their: Vec<String> = found.iter().map(|(_, outcome)| part(of(outcome))).collect();
            all.push(format!("{aspect}({}) ours {ours:?}, theirs {their:?}", names.join(",")));
        }
    };
    // The reason means nothing (RFC 9112 section 4), and Envoy writes its own.
    differing("line", true, &|m| match m.status() {
        0 => m.line.clone(),
        status => status.to_string(),
    });
    differing("host", false, &|m| m.values("host").join("|"));
    differing("body", false, &|m| format!("{} {}", m.complete, String::from_utf8_lossy(&m.body)));
    let own = fields(message);
    let extra: BTreeSet<_> = theirs
        .iter()
        .flat_map(|(name, outcome)| {
            let known = fields(of(outcome));
            own.iter().filter(move |field| !known.contains(*field)).map(move |field| (field.clone(), *name))
        })
        .collect();
    for (field, name) in extra {
        all.push(format!("extra({name}) {}: {:?}", field.0, field.1));
    }
    let Some((_, first)) = theirs.first() else { return };
    for field in fields(of(first)).iter().filter(|field| !own.contains(*field)) {
        if theirs.iter().all(|(_, outcome)| fields(of(outcome)).contains(field)) {
            all.push(format!("missing {}: {:?}", field.0, field.1));
        }
    }
}

pub fn fields(message: &Message) -> BTreeSet<(String, String)> {
    message.fields.iter().filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str())).cloned().collect()
}

/// Cases on the way to the client: the backend's answer is the case.
pub fn responses(ours: &Outcome, theirs: &[(&str, &Outcome)]) -> Vec<String> {
    let mut all = Vec::new();
    let is_passed =
        |outcome: &Outcome| !outcome.replies.is_empty() && outcome.status() != 502 && outcome.status() != 503;
    // A client takes a cut body for no answer at all.
    let is_whole =
        |outcome: &Outcome| is_passed(outcome) && outcome.replies.iter().all(|reply| reply.complete);
    if !is_whole(ours) {
        if theirs.iter().all(|(_, outcome)| is_whole(outcome)) {
            all.push(format!("stricter we answer {} {:?}", ours.status(), ours.end));
        }
        return all;
    }
    if let Some((_, names)) = who(theirs, |outcome| !is_whole(outcome)) {
        all.push(format!("laxer{names} we pass on {:?}", ours.replies));
    }
    let taking: Vec<_> = theirs.iter().filter(|(_, outcome)| is_whole(outcome)).copied().collect();
    if ours.end == End::InStep
        && let Some((_, names)) = who(&taking, |outcome| outcome.end != End::InStep)
    {
        all.push(format!("goes-on{names}"));
    }
    if ours.end != End::InStep && !taking.is_empty() && taking.iter().all(|(_, o)| o.end == End::InStep) {
        all.push(format!("ends we: {:?} {}", ours.end, ours.status()));
    }
    if let Some((_, names)) = who(&taking, |outcome| outcome.replies.len() != ours.replies.len()) {
        all.push(format!("count{names} ours {:?}", ours.replies));
        return all;
    }
    for (index, reply) in ours.replies.iter().enumerate() {
        passed_on(reply, &taking, |outcome| &outcome.replies[index], &mut all);
    }
    all
}
