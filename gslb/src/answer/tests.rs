//! What is said to every kind of question, and to what is none.

use hickory_proto::op::{Query, UpdateMessage};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use placement::{Authority, Epoch, Owner, VmName};
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::config::tests::config;
use crate::steering::{Order, Steering};

const SERIAL: u32 = 1_000;

fn first(config: &Config) -> Steering {
    Steering::default().under(&config.steered, u64::from(SERIAL)).unwrap()
}

fn view() -> View {
    let config = config();
    View::of(&config, &first(&config))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn said(message: &Message, transport: Transport) -> (Message, Answer) {
    let answer = answer(&message.to_vec().unwrap(), &view(), transport);
    let bytes = answer.bytes.clone().expect("something is said");
    (Message::from_vec(&bytes).unwrap(), answer)
}

fn asked(name: &str, kind: RecordType) -> Message {
    let (reply, _) = said(&question(name, kind), Transport::Udp);
    assert_eq!((reply.id, reply.message_type), (77, MessageType::Response));
    assert!(!reply.recursion_available && !reply.authentic_data);
    reply
}

fn data(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| format!("{} {} {}", record.name, record.ttl, record.data)).collect()
}

#[test]
fn a_steered_name_has_the_addresses_of_its_site_and_its_ttl() {
    let a = asked("shop.example.net.", RecordType::A);
    assert_eq!(data(&a.answers), ["shop.example.net. 300 192.0.2.80"]);
    assert!(a.authoritative && a.authorities.is_empty());
    let aaaa = asked("shop.example.net.", RecordType::AAAA);
    assert_eq!(data(&aaaa.answers), ["shop.example.net. 300 2001:db8:a::80"]);
}

#[test]
fn it_has_those_of_another_site_once_it_is_steered_there() {
    let config = config();
    let owner = Owner { name: "serve".parse().unwrap(), incarnation: 1 };
    let authority = Authority { epoch: Epoch::new(2), owner };
    let (vm, to): (VmName, Order) = ("web-1".parse().unwrap(), Order::Steer("b".parse().unwrap()));
    let steered = first(&config).after(&vm, &authority, &to, &config.steered, 2_000).unwrap();
    let view = View::of(&config, &steered);
    let bytes = question("shop.example.net.", RecordType::AAAA).to_vec().unwrap();
    let reply = answer(&bytes, &view, Transport::Udp).bytes.unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(data(&reply.answers), ["shop.example.net. 300 2001:db8:b::80"]);
}

#[test]
fn the_apex_has_soa_and_ns_with_the_addresses_that_we_know() {
    let soa = asked("example.net.", RecordType::SOA);
    let [Record { data: RData::SOA(data_), ttl, .. }] = &soa.answers[..] else { panic!("{soa}") };
    assert_eq!((data_.serial, data_.minimum, *ttl), (SERIAL, 7, 3_600));
    assert_eq!(data_.mname.to_ascii(), "ns1.example.net.");
    let ns = asked("example.net.", RecordType::NS);
    assert_eq!(ns.answers.len(), 2);
    assert_eq!(data(&ns.additionals), ["ns1.example.net. 3600 192.0.2.10"]);
    let mx = asked("example.net.", RecordType::MX);
    assert_eq!(data(&mx.additionals), ["mail.deep.example.net. 60 2001:db8::25"]);
}

#[test]
fn what_does_not_exist_is_denied_for_a_short_time() {
    for (name, kind, code) in [
        // No such name; a name of another type; a name that only has names below it.
        ("missing.example.net.", RecordType::A, ResponseCode::NXDomain),
        ("a.missing.example.net.", RecordType::A, ResponseCode::NXDomain),
        ("shop.shop.example.net.", RecordType::A, ResponseCode::NXDomain),
        ("shop.example.net.", RecordType::TXT, ResponseCode::NoError),
        ("pair.example.net.", RecordType::AAAA, ResponseCode::NoError),
        ("deep.example.net.", RecordType::A, ResponseCode::NoError),
        ("apps.example.net.", RecordType::TXT, ResponseCode::NoError),
        ("deep.example.net.", RecordType::ANY, ResponseCode::NoError),
        ("example.net.", RecordType::DS, ResponseCode::NoError),
        ("shop.example.net.", RecordType::Unknown(65_280), ResponseCode::NoError),
    ] {
        let reply = asked(name, kind);
        assert_eq!(reply.response_code, code, "{name} {kind}");
        assert!(reply.authoritative && reply.answers.is_empty(), "{name} {kind}");
        let [denial] = &reply.authorities[..] else { panic!("{reply}") };
        assert_eq!((denial.record_type(), denial.ttl), (RecordType::SOA, 7), "{name} {kind}");
    }
}

#[test]
fn an_alias_is_followed_where_it_leads_and_no_further() {
    let reply = asked("www.example.net.", RecordType::A);
    let wanted = ["www.example.net. 3600 shop.example.net.", "shop.example.net. 300 192.0.2.80"];
    assert_eq!(data(&reply.answers), wanted);
    let itself = asked("www.example.net.", RecordType::CNAME);
    assert_eq!(data(&itself.answers), wanted[..1]);
    let no_data = asked("www.example.net.", RecordType::TXT);
    assert_eq!((no_data.answers.len(), no_data.authorities.len()), (1, 1));

    let out = asked("out.example.net.", RecordType::A);
    assert_eq!((out.response_code, out.answers.len()), (ResponseCode::NoError, 1));
    let nowhere = asked("nowhere.example.net.", RecordType::A);
    assert_eq!((nowhere.response_code, nowhere.answers.len()), (ResponseCode::NXDomain, 1));
    let round = asked("round.example.net.", RecordType::A);
    assert_eq!(round.answers.len(), 2);
}

#[test]
fn a_pattern_stands_for_names_that_do_not_exist() {
    let reply = asked("Some.apps.example.net.", RecordType::TXT);
    assert_eq!(data(&reply.answers), ["Some.apps.example.net. 3600 any app"]);
    let deeper = asked("a.b.apps.example.net.", RecordType::TXT);
    assert_eq!(deeper.answers.len(), 1);
    assert_eq!(asked("x.apps.example.net.", RecordType::A).response_code, ResponseCode::NoError);
    assert_eq!(asked("*.apps.example.net.", RecordType::TXT).answers.len(), 1);
}

#[test]
fn any_is_one_set_of_records() {
    let reply = asked("shop.example.net.", RecordType::ANY);
    assert_eq!(data(&reply.answers), ["shop.example.net. 300 192.0.2.80"]);
}

#[test]
fn letters_come_back_as_they_were_sent() {
    let mixed = "sHoP.eXaMpLe.NET.";
    let bytes = question(mixed, RecordType::A).to_vec().unwrap();
    let reply = answer(&bytes, &view(), Transport::Udp).bytes.unwrap();
    let read = Message::from_vec(&reply).unwrap();
    assert_eq!(read.queries[0].name().to_ascii(), mixed);
    assert_eq!(read.answers[0].name.to_ascii(), mixed);
    // Byte for byte: the reply repeats the question's section.
    assert_eq!(reply[12..bytes.len()], bytes[12..]);
}

#[test]
fn what_is_not_ours_is_refused_without_a_word_on_it() {
    let mut other_class = question("shop.example.net.", RecordType::A);
    other_class.queries[0].set_query_class(DNSClass::CH);
    let all = [
        question("example.org.", RecordType::A),
        question("net.", RecordType::NS),
        question(".", RecordType::NS),
        question("badexample.net.", RecordType::A),
        question("example.net.", RecordType::AXFR),
        question("example.net.", RecordType::IXFR),
        other_class,
    ];
    for message in all {
        let (reply, said) = said(&message, Transport::Udp);
        assert_eq!(reply.response_code, ResponseCode::Refused, "{message}");
        assert!(!reply.authoritative && reply.all_sections().next().is_none(), "{message}");
        assert_eq!(said.outcome, Outcome::Refused);
    }
}

#[test]
fn the_wish_for_recursion_is_repeated_and_not_fulfilled() {
    let mut message = question("shop.example.net.", RecordType::A);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    let (reply, _) = said(&message, Transport::Udp);
    assert!(reply.recursion_desired && !reply.recursion_available && !reply.checking_disabled);
}

#[test]
fn edns_is_answered_with_edns_and_a_version_that_is_not_known_is_named() {
    let mut message = question("shop.example.net.", RecordType::A);
    assert!(said(&message, Transport::Udp).0.edns.is_none());
    let mut edns = Edns::new();
    edns.set_max_payload(4_096).set_dnssec_ok(true);
    message.set_edns(edns.clone());
    let (reply, _) = said(&message, Transport::Udp);
    let own = reply.edns.clone().unwrap();
    assert_eq!((own.version(), own.max_payload()), (0, UDP_BYTES_MAX));
    assert!(own.flags().dnssec_ok);
    assert_eq!(reply.answers.len(), 1);

    message.set_edns(edns.set_version(1).clone());
    let (reply, said) = said(&message, Transport::Udp);
    // By its number, which another code has as well.
    assert_eq!(u16::from(reply.response_code), 16);
    assert_eq!(reply.edns.as_ref().unwrap().version(), 0);
    assert!(reply.answers.is_empty() && said.outcome == Outcome::BadVersion);
}

#[test]
fn what_does_not_fit_is_left_out_whole_and_tcp_has_it() {
    let mut message = question("long.example.net.", RecordType::TXT);
    for (payload, room) in [(None, 512), (Some(100), 512), (Some(600), 600), (Some(65_535), 1_232)]
    {
        if let Some(payload) = payload {
            message.edns = Some(Edns::new().set_max_payload(payload).clone());
        }
        let (reply, said) = said(&message, Transport::Udp);
        assert!(reply.truncation && said.truncated, "{payload:?}");
        assert_eq!((reply.answers.len(), reply.queries.len()), (0, 1));
        assert_eq!(reply.edns.is_some(), payload.is_some());
        assert!(said.bytes.unwrap().len() <= room);
    }
    let (reply, said) = said(&message, Transport::Tcp);
    assert!(!reply.truncation && !said.truncated);
    assert_eq!(reply.answers.len(), 8);
}

#[test]
fn what_is_no_question_gets_a_code_or_silence() {
    let view = view();
    let coded = |bytes: &[u8]| {
        let reply = answer(bytes, &view, Transport::Udp).bytes?;
        Some(Message::from_vec(&reply).unwrap().response_code)
    };
    let sound = question("shop.example.net.", RecordType::A).to_vec().unwrap();
    let mut response = sound.clone();
    response[2] |= 0x80;
    assert_eq!(coded(&response), None, "a response");
    assert_eq!(coded(&sound[..11]), None, "no header");
    assert_eq!(coded(&sound[..12]), Some(ResponseCode::FormErr), "no question");
    assert_eq!(coded(&sound[..20]), Some(ResponseCode::FormErr), "half a question");
    for questions in [0, 2, 65_535_u16] {
        let mut counted = sound.clone();
        counted[4..6].copy_from_slice(&questions.to_be_bytes());
        assert_eq!(coded(&counted), Some(ResponseCode::FormErr), "{questions} questions");
    }
    let mut promising = sound.clone();
    promising[6..12].copy_from_slice(&[0xff; 6]);
    assert_eq!(coded(&promising), Some(ResponseCode::FormErr), "records that are not there");
    let mut twice = question("shop.example.net.", RecordType::A);
    twice.add_additionals([Record::from(&Edns::new()), Record::from(&Edns::new())]);
    assert_eq!(coded(&twice.to_vec().unwrap()), Some(ResponseCode::FormErr), "two OPT");
    let opt = question("shop.example.net.", RecordType::OPT).to_vec().unwrap();
    assert_eq!(coded(&opt), Some(ResponseCode::FormErr), "OPT as a type");
    for op_code in [1, 2, 4, 5, 15_u8] {
        let mut other = sound.clone();
        other[2] = op_code << 3;
        assert_eq!(coded(&other), Some(ResponseCode::NotImp), "operation {op_code}");
    }
    let mut update = Message::new(1, MessageType::Query, OpCode::Update);
    update.add_zone(Query::query(Name::from_ascii("example.net.").unwrap(), RecordType::SOA));
    assert_eq!(coded(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
}

#[test]
fn the_longest_name_there_can_be_is_looked_up() {
    let deep = format!("{}example.net.", "a.".repeat(121));
    assert_eq!(asked(&deep, RecordType::A).response_code, ResponseCode::NXDomain);
    let deep = format!("{}apps.example.net.", "a.".repeat(118));
    assert_eq!(asked(&deep, RecordType::TXT).answers.len(), 1);
}

fn sound(bytes: &[u8], transport: Transport, bytes_max: usize) {
    let Answer { bytes: Some(reply), .. } = answer(bytes, &view(), transport) else { return };
    assert!(reply.len() <= bytes_max);
    let read = Message::from_vec(&reply).expect("what we say can be read");
    assert_eq!(read.message_type, MessageType::Response);
    assert_eq!(reply[..2], bytes[..2], "another id");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_answered_soundly_or_not_at_all(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        sound(&bytes, Transport::Udp, usize::from(UDP_BYTES_MAX));
        sound(&bytes, Transport::Tcp, usize::from(u16::MAX));
    }

    #[test]
    fn a_question_with_some_bytes_changed_is_answered_soundly_or_not_at_all(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut message = question("sHop.example.net.", RecordType::A);
        message.set_edns(Edns::new());
        let mut bytes = message.to_vec().unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        sound(&bytes, Transport::Udp, usize::from(UDP_BYTES_MAX));
        bytes.truncate(cut.index(bytes.len()));
        sound(&bytes, Transport::Udp, usize::from(UDP_BYTES_MAX));
    }
}
