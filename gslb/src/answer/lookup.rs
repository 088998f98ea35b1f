//! What a question comes to in a view: records, a denial, or a refusal.

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};

use super::Outcome;
use crate::view::{Node, Set, View, Zone};

/// Most aliases that are followed for one question.
const ALIASES_MAX: usize = 8;

/// What goes into an answer.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) code: ResponseCode,
    pub(super) outcome: Outcome,
    pub(super) is_authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Resolved {
    /// A code and nothing else.
    pub(super) fn coded(code: ResponseCode, outcome: Outcome) -> Resolved {
        Resolved {
            code,
            outcome,
            is_authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

pub(super) fn resolve(query: &Query, view: &View) -> Resolved {
    let kind = query.query_type();
    if matches!(kind, RecordType::OPT | RecordType::TSIG) {
        return Resolved::coded(ResponseCode::FormErr, Outcome::Malformed);
    }
    let is_transfer = matches!(kind, RecordType::AXFR | RecordType::IXFR);
    let is_ours = view.zone_of(&LowerName::from(query.name())).is_some();
    if is_transfer || !is_ours || query.query_class() != DNSClass::IN {
        return Resolved::coded(ResponseCode::Refused, Outcome::Refused);
    }
    let mut resolved = Resolved::coded(ResponseCode::NoError, Outcome::Answered);
    resolved.is_authoritative = true;
    // The name as it was asked for, large letters and all: some askers check that it comes back so.
    let mut owner = query.name().clone();
    for _ in 0..=ALIASES_MAX {
        let lower = LowerName::from(&owner);
        // An alias may lead out of what is ours; whoever asked goes on from there.
        let Some(zone) = view.zone_of(&lower) else { break };
        match step(&owner, kind, zone.find(&lower), zone, &mut resolved) {
            Some(target) if !is_circular(&target, &resolved) => owner = target,
            _ => break,
        }
    }
    resolved.additionals = additionals(&resolved.answers, view);
    resolved
}

/// Adds what there is at one name; gives the next name, where this one is an alias.
fn step(
    owner: &Name,
    kind: RecordType,
    node: Option<&Node>,
    zone: &Zone,
    resolved: &mut Resolved,
) -> Option<Name> {
    let Some(node) = node else {
        resolved.authorities.push(zone.denial.clone());
        resolved.code = ResponseCode::NXDomain;
        resolved.outcome = Outcome::NoName;
        return None;
    };
    let wanted = match kind {
        // One set is enough (RFC 8482): who wants all that there is wants to amplify.
        RecordType::ANY => node.sets.first(),
        _ => node.set(kind),
    };
    if let Some(set) = wanted {
        resolved.answers.extend(records(owner, set));
        return None;
    }
    if let Some(set) = node.set(RecordType::CNAME) {
        resolved.answers.extend(records(owner, set));
        return set.data.iter().find_map(|data| match data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
    }
    resolved.authorities.push(zone.denial.clone());
    resolved.outcome = Outcome::NoData;
    None
}

fn records<'r>(owner: &'r Name, set: &'r Set) -> impl Iterator<Item = Record> + 'r {
    set.data.iter().map(|data| Record::from_rdata(owner.clone(), set.ttl_s, data.clone()))
}

fn is_circular(target: &Name, resolved: &Resolved) -> bool {
    resolved.answers.iter().any(|record| record.name == *target)
}

/// Addresses that whoever gets these answers will ask for next.
fn additionals(answers: &[Record], view: &View) -> Vec<Record> {
    let target = |record: &Record| match &record.data {
        RData::NS(name) => Some(name.0.clone()),
        RData::MX(exchange) => Some(exchange.exchange.clone()),
        _ => None,
    };
    let mut additionals = Vec::new();
    for name in answers.iter().filter_map(target) {
        for set in view.addresses(&LowerName::from(&name)) {
            additionals.extend(records(&name, set));
        }
    }
    additionals
}
