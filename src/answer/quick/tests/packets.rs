//! Queries of all sorts, some of them not well-formed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const NAMES: [&str; 27] = [
    "web.ns.fed.svc.example.com",
    "WEB.ns.Fed.svc.example.com",
    "api.ns.fed.svc.example.com",
    "web.team.fed.svc.example.com",
    "web.ns.fed.example.com",
    "web.ns.fed.svc.eu.example.com",
    "web.ns.fed.svc.us.example.com",
    "api.ns.fed.svc.asia.example.com",
    "web.ns.fed.svc.eu-1.eu.example.com",
    "web.ns.fed.svc.eu-2.example.com",
    "web.ns.fed.svc.us-1.example.com",
    "absent.ns.fed.svc.example.com",
    "ns.fed.svc.example.com",
    "a.web.ns.fed.svc.example.com",
    "C.Web.ns.fed.svc.example.com",
    "d.api.ns.fed.svc.example.com",
    "y.web.team.fed.svc.example.com",
    "x9.web.ns.fed.svc.example.com",
    "b.absent.ns.fed.svc.example.com",
    "nobody.web.ns.fed.svc.example.com",
    "a.web.ns.fed.svc.eu.example.com",
    "_http._tcp.web.ns.fed.svc.example.com",
    "svc.example.com",
    "example.com",
    "web.ns.fed.svc.nowhere.example.com",
    "web.ns.fed.svc.example.net",
    "com",
];

/// A query with all sorts of EDNS, some of it not well-formed.
pub(super) fn query() -> impl Strategy<Value = Vec<u8>> {
    let options: Vec<&'static [u8]> = vec![
        b"",
        b"\0\x08\0\x07\0\x01\x18\0\xc6\x12\x07",
        b"\0\x08\0\x07\0\x01\x18\0\xc6\x13\x90",
        b"\0\x08\0\x08\0\x01\x20\0\xc6\x12\x07\x09",
        b"\0\x08\0\x06\0\x01\x0f\0\xc6\x12",
        b"\0\x08\0\x04\0\x01\0\0",
        b"\0\x08\0\x04\0\0\0\0",
        b"\0\x08\0\x0a\0\x02\x30\0\x20\x01\x0d\xb8\0\x01",
        b"\0\x08\0\x07\0\x01\x18\0\x0a\x01\x02",
        // A cookie, alone and in front of a subnet.
        b"\0\x0a\0\x08abcdefgh",
        b"\0\x0a\0\x08abcdefgh\0\x08\0\x07\0\x01\x18\0\xc6\x12\x07",
        // The identifier; a subnet twice; with a scope; a bit too many; cut.
        b"\0\x03\0\0",
        b"\0\x08\0\x04\0\x01\0\0\0\x08\0\x04\0\x01\0\0",
        b"\0\x08\0\x07\0\x01\x18\x10\xc6\x12\x07",
        b"\0\x08\0\x06\0\x01\x0f\0\xc6\x13",
        b"\0\x08\0\x07\0\x01\x18",
    ];
    let edns = (select(vec![0_u16, 512, 1232, 4096]), any::<bool>(), select(options), 0..12_u8);
    (
        select(NAMES.to_vec()),
        select(vec![1_u16, 1, 1, 28, 28, 16, 33, 255, 252]),
        proptest::option::of(edns),
        any::<u16>(),
        select(vec![0_u8, 1, 0x10]),
        // Now and then a class, an opcode or an end that is none.
        0..24_u8,
    )
        .prop_map(|(text, qtype, edns, id, flags, odd)| {
            let [i0, i1] = id.to_be_bytes();
            let opcode = if odd == 0 { 0x28 } else { flags & 1 };
            let additional = u8::from(edns.is_some());
            let mut wire = vec![i0, i1, opcode, flags & 0x10, 0, 1, 0, 0, 0, 0, 0, additional];
            let labels = text.split('.');
            wire.extend(labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()));
            wire.push(0);
            wire.extend(qtype.to_be_bytes());
            wire.extend(if odd == 1 { [0, 3] } else { [0, 1] });
            if let Some((payload, dnssec_ok, options, version)) = edns {
                wire.extend([0, 0, 41]);
                wire.extend(payload.to_be_bytes());
                wire.extend([0, version / 11, u8::from(dnssec_ok) << 7, 0]);
                wire.extend((options.len() as u16).to_be_bytes());
                wire.extend_from_slice(options);
            }
            match odd {
                2 => drop(wire.pop()),
                3 => wire.push(0),
                _ => {}
            }
            wire
        })
}

/// Octets of a query that went wrong on the way.
#[derive(Clone, Debug)]
pub(super) enum Slip {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, u8),
    Append(Vec<u8>),
}

impl Slip {
    pub(super) fn make(&self, query: &mut Vec<u8>) {
        match self {
            Self::Flip(at, bits) => {
                let at = at.index(query.len());
                query[at] ^= bits;
            }
            Self::Cut(at) => query.truncate(1 + at.index(query.len())),
            Self::Insert(at, octet) => query.insert(at.index(query.len()), *octet),
            Self::Append(octets) => query.extend(octets),
        }
    }
}

pub(super) fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let flip = (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Slip::Flip(at, bits));
    // In the header and the lengths of labels small differences matter most.
    let bit = (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Slip::Flip(at, 1 << bit));
    let cut = any::<Index>().prop_map(Slip::Cut);
    let insert = (any::<Index>(), select(vec![0_u8, 1, 3, 0xc0]))
        .prop_map(|(at, octet)| Slip::Insert(at, octet));
    let record = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0\xc6\x12\x07".to_vec();
    let append = select(vec![record, vec![0], b"\0\0\x01\0\x01\0\0\0\0\0\0".to_vec()]);
    let slip = prop_oneof![flip, bit, cut, insert, append.prop_map(Slip::Append)];
    proptest::option::weighted(0.4, vec(slip, 1..4)).prop_map(Option::unwrap_or_default)
}
