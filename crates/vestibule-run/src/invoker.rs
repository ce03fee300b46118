//! Who may invoke a service.
//!
//! Cloud Run wants an identity token, not an access token, and checks the permission `run.routes.invoke` of the one it
//! names. What a policy says is prepared once when the service changes; a request then costs a look-up of the token
//! among those already verified on this thread (the verifier remembers them) and a few string comparisons.

use bytes::Bytes;
use jiff::Timestamp;
use vestibule_iam::policy::{Context, Policy, RUN_INVOKE, any_allows, grants};
use vestibule_iam::token::{bearer, without_signature};
use vestibule_iam::{Principal, Verifier};

use crate::desired::Service;
use crate::front::{Ask, ReplacedToken};
use crate::refusal::Refusal;
use crate::table::Entry;

/// Roles that members such as `projectOwner:P` refer to.
const BASIC_ROLES: [&str; 3] = ["roles/owner", "roles/editor", "roles/viewer"];

/// The bindings of a service and its project that can matter for an invocation.
pub(crate) struct Invokers {
    /// Everyone, always: no token is even looked at.
    open: bool,
    /// Everyone, under a condition.
    maybe_open: bool,
    policies: Vec<Policy>,
    /// Relative name of the service, if a condition might ask for it.
    condition_subject: Option<String>,
}

impl Invokers {
    pub(crate) fn new(service: &Service) -> Self {
        let policies: Vec<Policy> = service.policies.iter().map(|policy| relevant(policy)).collect();
        let granting = || {
            let bindings = policies.iter().flat_map(|policy| &policy.bindings);
            bindings.filter(|binding| grants(&binding.role, RUN_INVOKE))
        };
        let everyone = |binding: &&vestibule_iam::policy::Binding| {
            binding.members.iter().any(|member| member.matches(&Principal::Anonymous))
        };
        let open = granting().filter(everyone).any(|binding| binding.condition.is_none());
        let key = &service.key;
        let conditional = granting().any(|binding| binding.condition.is_some());
        Self {
            open: open || service.invoker_check_disabled,
            maybe_open: granting().any(|binding| everyone(&binding)),
            condition_subject: conditional
                .then(|| format!("projects/{}/locations/{}/services/{}", key.project, key.region, key.name)),
            policies,
        }
    }

    fn allow(&self, principal: &Principal) -> bool {
        let context = match &self.condition_subject {
            Some(name) => Context::run_service(name.as_str()),
            None => Context::now(),
        };
        any_allows(&self.policies, RUN_INVOKE, principal, &context)
    }

    fn open_now(&self) -> bool {
        self.open || (self.maybe_open && self.allow(&Principal::Anonymous))
    }
}

/// The policy without bindings that can never grant an invocation.
fn relevant(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    let matters = |role: &str| grants(role, RUN_INVOKE) || BASIC_ROLES.contains(&role);
    policy.bindings.retain(|binding| matters(&binding.role));
    policy
}

/// Checks the identity that a request shows.
pub(crate) struct Checker {
    verifier: Verifier,
}

impl Checker {
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }

    /// Whether the request may invoke the service, and what stands in place of the token it showed.
    ///
    /// Where both headers are present only `X-Serverless-Authorization` counts; the other goes on untouched.
    pub(crate) fn check(&self, entry: &Entry, ask: &Ask<'_>) -> Result<Option<ReplacedToken>, Refusal> {
        let invokers = &entry.invokers;
        if invokers.open_now() {
            return Ok(None);
        }
        let (header, serverless) = match (ask.serverless_authorization, ask.authorization) {
            (Some(header), _) => (header, true),
            (None, Some(header)) => (header, false),
            (None, None) => return Err(Refusal::no_token(ask.path)),
        };
        let token = bearer(header).ok_or_else(|| Refusal::bad_token(ask.path, "it is no bearer token"))?;
        let verified = self
            .verifier
            .verify(token, &entry.service.audiences, Timestamp::now())
            .map_err(|error| Refusal::bad_token(ask.path, &error.to_string()))?;
        if !invokers.allow(&verified.principal) {
            return Err(Refusal::not_allowed(ask.path, &verified.principal.to_string()));
        }
        Ok(Some(ReplacedToken { serverless, value: replacement(token) }))
    }
}

/// The header's value without the signature, so that the container cannot show the token to someone else.
fn replacement(token: &str) -> Bytes {
    let token = without_signature(token).unwrap_or_default();
    Bytes::from(format!("Bearer {token}"))
}
