//! Rules that choose a table.

use std::io;
use std::net::IpAddr;

use super::Netlink;
use super::message::{
    AF_INET, AF_INET6, Make, Message, address_of, number_of, text_of, value_of, zero_ended,
};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
/// `struct fib_rule_hdr`.
const BODY_BYTES: usize = 12;

/// A rule of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) is_v4: bool,
    pub(crate) priority: u32,
    /// The name of the interface that the packet came in by.
    pub(crate) input: String,
    pub(crate) mark: Option<u32>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) table: u32,
}

impl Netlink {
    /// Those of ours.
    pub(crate) fn our_rules(&self) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut body = [0; BODY_BYTES];
            body[0] = family;
            rules.extend(self.list(|| Message::list(RTM_GETRULE).body(&body), read)?);
        }
        Ok(rules)
    }

    pub(crate) fn add_rule(&self, rule: &Rule) -> io::Result<()> {
        self.ask(written(Message::make(RTM_NEWRULE, Make::New), rule))
    }

    /// It may be gone already.
    pub(crate) fn delete_rule(&self, rule: &Rule) -> io::Result<()> {
        self.ask_gone(written(Message::change(RTM_DELRULE), rule))
    }
}

fn written(message: Message, rule: &Rule) -> Message {
    let (family, whole) = if rule.is_v4 { (AF_INET, 32) } else { (AF_INET6, 128) };
    let source_bits = if rule.source.is_some() { whole } else { 0 };
    let mut message =
        message.body(&[family, 0, source_bits, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0]);
    message = message.with_number(FRA_PRIORITY, rule.priority);
    message = message.with(FRA_IIFNAME, &zero_ended(&rule.input));
    message = message.with_number(FRA_TABLE, rule.table).with(FRA_PROTOCOL, &[super::PROTOCOL]);
    if let Some(mark) = rule.mark {
        message = message.with_number(FRA_FWMARK, mark);
    }
    if let Some(source) = rule.source {
        message = message.with_address(FRA_SRC, source);
    }
    message
}

fn read(bytes: &[u8]) -> Option<Rule> {
    let attributes = bytes.get(BODY_BYTES..)?;
    let value = |kind| value_of(attributes, kind);
    if value(FRA_PROTOCOL)? != [super::PROTOCOL] {
        return None;
    }
    Some(Rule {
        is_v4: *bytes.first()? == AF_INET,
        priority: value(FRA_PRIORITY).and_then(number_of)?,
        input: value(FRA_IIFNAME).map(text_of).unwrap_or_default(),
        mark: value(FRA_FWMARK).and_then(number_of).filter(|mark| *mark != 0),
        source: value(FRA_SRC).and_then(address_of),
        table: value(FRA_TABLE).and_then(number_of)?,
    })
}
