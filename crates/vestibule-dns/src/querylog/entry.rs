//! One entry, in the shape in which Cloud Logging holds those of Cloud DNS.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use vestibule_logs::Severity;
use vestibule_logs::json::Object;
use vestibule_logs::time::TimeWriter;

use super::{Exchange, Machine, Who};
use crate::asker::Entry;
use crate::counts::Transport;
use crate::name;
use crate::rdata;
use crate::wire::{self, Query, Record, Reply};

/// The log of questions, URL-encoded as in a log name.
const LOG_ID: &str = "dns.googleapis.com%2Fdns_queries";

/// How long the answer's records may be in an entry, in octets of their text; what is longer ends with dots.
const MAX_RDATA: usize = 260;

/// Appends the entry. `None`, and nothing useful appended, for what is no question or no answer.
pub(super) fn write(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    done: SystemTime,
    clock: &mut TimeWriter,
    who: &Who,
) -> Option<()> {
    let query = wire::read_query(&exchange.message).ok()?;
    let reply = wire::read_answer(&exchange.answer)?;
    let project = exchange.network.as_str().split('/').nth(1)?;
    let machine = exchange.source.and_then(|source| who(&exchange.network, source));
    let mut entry = Object::begin(out);
    entry.str("logName", &format!("projects/{project}/logs/{LOG_ID}"));
    entry.object("resource", |resource| {
        resource.str("type", "dns_query");
        resource.object("labels", |labels| write_labels(labels, exchange, project));
    });
    entry.str("severity", severity(reply.rcode).name().unwrap_or_default());
    {
        let text = entry.value("timestamp");
        text.push(b'"');
        clock.nanos(text, exchange.at);
        text.push(b'"');
    }
    entry.object("jsonPayload", |payload| {
        write_question(payload, &query, &reply);
        write_way(payload, exchange, done);
        if let Some(machine) = &machine {
            write_machine(payload, machine);
        }
    });
    entry.end();
    Some(())
}

fn write_labels(labels: &mut Object<'_>, exchange: &Exchange, project: &str) {
    let origin = exchange.origin.as_ref();
    labels.str("project_id", project);
    labels.str("location", exchange.region.as_deref().unwrap_or("global"));
    let source = match exchange.entry {
        Entry::Forwarder(_) => "inbound-forwarding",
        Entry::Machines | Entry::Instance(_) => "gce-vm",
    };
    labels.str("source_type", source);
    labels.str("target_type", origin.map_or("", |origin| origin.kind));
    labels.str("target_name", origin.map_or("", |origin| &origin.name));
}

/// As Google's entries have them: an answer is information, a name that does not exist is a notice.
fn severity(rcode: u8) -> Severity {
    match wire::rcode_name(rcode) {
        "NOERROR" => Severity::INFO,
        "NXDOMAIN" => Severity::NOTICE,
        _ => Severity::ERROR,
    }
}

fn write_question(payload: &mut Object<'_>, query: &Query<'_>, reply: &Reply) {
    payload.str("queryName", &name::to_text(&query.name));
    payload.str("queryType", &rdata::type_name(query.kind));
    payload.str("responseCode", wire::rcode_name(reply.rcode));
    payload.bool("authAnswer", reply.authoritative);
    payload.str("rdata", &answer(&reply.answers));
}

/// A line a record, shortened as Google's are.
fn answer(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        if !text.is_empty() {
            text.push('\n');
        }
        let kind = rdata::type_name(record.kind).to_ascii_lowercase();
        let data = rdata::text(record.kind, &record.data);
        text.push_str(&format!("{}\t{}\tIN\t{kind}\t{data}", record.name, record.ttl));
        // All of it is ASCII.
        if text.len() > MAX_RDATA {
            text.truncate(MAX_RDATA - "...".len());
            text.push_str("...");
            break;
        }
    }
    text
}

fn write_way(payload: &mut Object<'_>, exchange: &Exchange, done: SystemTime) {
    let protocol = match exchange.transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    };
    payload.str("protocol", protocol);
    if let Some(source) = exchange.source.filter(|source| *source != Ipv4Addr::UNSPECIFIED) {
        payload.str("sourceIP", &source.to_string());
    }
    if let Some(server) = exchange.server {
        payload.str("destinationIP", &server.to_string());
    }
    payload.str("sourceNetwork", exchange.network.short());
    let latency = done.duration_since(exchange.at).unwrap_or_default();
    // Milliseconds.
    payload.number("serverLatency", u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
    payload.bool("dns64Translated", exchange.translated);
}

fn write_machine(payload: &mut Object<'_>, machine: &Machine) {
    payload.number("vmInstanceId", machine.id);
    payload.str("vmInstanceIdString", &machine.id.to_string());
    payload.str("vmInstanceName", &format!("{}.{}", machine.project_number, machine.name));
    payload.str("vmProjectId", &machine.project);
    payload.str("vmZoneName", &machine.zone);
}
