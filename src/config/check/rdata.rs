//! RDATA from its presentation form (RFC 1035 §5.1), read by hickory-proto.
//!
//! *Guarantees*: what is read is the whole of what was written. hickory-proto ends at a `;`,
//! drops what is left over, and reads `\DDD` wrongly, so the fields are counted here and such
//! forms are refused.

use hickory_proto::rr::{self, Name, RData};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use hickory_proto::serialize::txt::Parser;

use crate::model::DomainName;

/// A type that a static record can have: plain data without a meaning for the zone itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordType {
    rtype: rr::RecordType,
    /// Fields of the presentation form.
    fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    Exactly(usize),
    AtLeast(usize),
}

impl RecordType {
    pub(super) const A: Self = Self::of(rr::RecordType::A, Fields::Exactly(1));
    pub(super) const AAAA: Self = Self::of(rr::RecordType::AAAA, Fields::Exactly(1));
    pub(super) const CNAME: Self = Self::of(rr::RecordType::CNAME, Fields::Exactly(1));

    const ALL: [Self; 13] = [
        Self::A,
        Self::AAAA,
        Self::of(rr::RecordType::CAA, Fields::Exactly(3)),
        Self::CNAME,
        Self::of(rr::RecordType::HTTPS, Fields::AtLeast(2)),
        Self::of(rr::RecordType::MX, Fields::Exactly(2)),
        Self::of(rr::RecordType::NAPTR, Fields::Exactly(6)),
        Self::of(rr::RecordType::PTR, Fields::Exactly(1)),
        Self::of(rr::RecordType::SRV, Fields::Exactly(4)),
        Self::of(rr::RecordType::SSHFP, Fields::Exactly(3)),
        Self::of(rr::RecordType::SVCB, Fields::AtLeast(2)),
        Self::of(rr::RecordType::TLSA, Fields::Exactly(4)),
        Self::of(rr::RecordType::TXT, Fields::AtLeast(1)),
    ];

    const fn of(rtype: rr::RecordType, fields: Fields) -> Self {
        Self { rtype, fields }
    }

    /// The type called `text`, in any case.
    ///
    /// # Errors
    /// Why static records cannot have it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_uppercase();
        let known = Self::ALL.into_iter().find(|known| known.rtype.to_string() == name);
        known.ok_or_else(|| match name.as_str() {
            "SOA" => "the SOA is made from federation.soa".to_owned(),
            "NS" => "name servers stand in federation.nameservers; the domain has no delegations"
                .to_owned(),
            _ => {
                let all: Vec<String> = Self::ALL.iter().map(|t| t.rtype.to_string()).collect();
                format!("'{text}' is none of the types {}", all.join(", "))
            }
        })
    }

    /// Its number in a message.
    pub(super) fn number(self) -> u16 {
        self.rtype.into()
    }
}

/// The wire form of `data`, names uncompressed; relative names are relative to `origin`, or to
/// the root where it is not known.
///
/// # Errors
/// What is wrong with `data`.
pub(super) fn parse(
    rtype: RecordType,
    data: &str,
    origin: Option<&DomainName>,
) -> Result<Box<[u8]>, String> {
    let RecordType { rtype, fields } = rtype;
    let count = count_fields(data)?;
    match fields {
        Fields::Exactly(wanted) if count != wanted => {
            return Err(format!("'{data}' has {count} fields; {rtype} has {wanted}"));
        }
        Fields::AtLeast(wanted) if count < wanted => {
            return Err(format!("'{data}' has {count} fields; {rtype} has {wanted} or more"));
        }
        _ => {}
    }
    let fail = |error: &dyn std::fmt::Display| format!("'{data}' is no data of {rtype}: {error}");
    let origin = origin.map(|origin| Name::from_ascii(origin.to_string())).transpose();
    let origin = origin.map_err(|error| fail(&error))?.unwrap_or_else(Name::root);
    let line = format!("@ 0 IN {rtype} {data}\n");
    let (_, sets) = Parser::new(line, None, Some(origin)).parse().map_err(|e| fail(&e))?;
    let mut records = sets.values().flat_map(|set| set.records_without_rrsigs());
    let record = records.next().ok_or_else(|| fail(&"it is empty"))?;
    encode(&record.data).map_err(|error| fail(&error))
}

fn encode(data: &RData) -> Result<Box<[u8]>, hickory_proto::ProtoError> {
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder)?;
    Ok(octets.into())
}

/// Counts the fields, and refuses what would not be read as it stands.
fn count_fields(data: &str) -> Result<usize, String> {
    let mut count = 0;
    let mut rest = data.trim_start();
    while let Some(first) = rest.chars().next() {
        count += 1;
        let end = if first == '"' { quoted_end(rest)? } else { plain_end(rest)? };
        rest = &rest[end..];
        if rest.starts_with(|c: char| !c.is_whitespace()) {
            return Err("a space is missing after a '\"'".to_owned());
        }
        rest = rest.trim_start();
    }
    match data.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("holds the control character {control:?}")),
        None => Ok(count),
    }
}

/// Where the quoted string that `text` begins with ends.
fn quoted_end(text: &str) -> Result<usize, String> {
    let mut chars = text.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok(index + 1),
            '\\' if !matches!(chars.next(), Some((_, '"' | '\\'))) => {
                return Err("within quotes, '\\' stands only before '\"' and '\\'".to_owned());
            }
            _ => {}
        }
    }
    Err("a '\"' is not closed".to_owned())
}

/// Where the unquoted field that `text` begins with ends.
fn plain_end(text: &str) -> Result<usize, String> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    match text[..end].chars().find(|c| matches!(c, ';' | '(' | ')' | '\\')) {
        Some(c) => Err(format!("'{c}' has a meaning of its own: put the text in double quotes")),
        None => Ok(end),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{RecordType, parse};
    use crate::model::DomainName;

    fn wire(rtype: &str, data: &str) -> Result<Vec<u8>, String> {
        let origin = DomainName::parse("example.com").expect("valid");
        parse(RecordType::parse(rtype)?, data, Some(&origin)).map(Vec::from)
    }

    #[test]
    fn reads_the_usual_types() {
        assert_eq!(wire("A", "192.0.2.1"), Ok(vec![192, 0, 2, 1]));
        assert_eq!(wire("aaaa", "::1").expect("valid").len(), 16);
        assert_eq!(wire("TXT", r#""v=spf1 -all" b"#), Ok(b"\x0bv=spf1 -all\x01b".to_vec()));
        assert_eq!(wire("TXT", r#""a \"b\" \\ ; c""#), Ok(b"\x0ba \"b\" \\ ; c".to_vec()));
        assert_eq!(wire("MX", "10 mail"), Ok(b"\x00\x0a\x04mail\x07example\x03com\x00".to_vec()));
        assert_eq!(wire("CNAME", "x.example.net."), Ok(b"\x01x\x07example\x03net\x00".to_vec()));
        assert_eq!(wire("SRV", "1 2 443 a."), Ok(vec![0, 1, 0, 2, 0x01, 0xbb, 1, b'a', 0]));
        assert_eq!(
            wire("CAA", r#"0 issue "ca.example.net; policy=ev""#),
            Ok(b"\x00\x05issueca.example.net; policy=ev".to_vec())
        );
        assert_eq!(wire("TLSA", "3 1 1 00ff"), Ok(vec![3, 1, 1, 0, 255]));
        assert_eq!(wire("SSHFP", "4 2 00ff"), Ok(vec![4, 2, 0, 255]));
        assert_eq!(
            wire("HTTPS", "1 . alpn=h2"),
            Ok(b"\x00\x01\x00\x00\x01\x00\x03\x02h2".to_vec())
        );
        assert_eq!(wire("PTR", "a."), Ok(b"\x01a\x00".to_vec()));
        assert_eq!(
            wire("NAPTR", r#"1 2 "S" "SIP+D2U" "" _sip._udp"#),
            Ok(b"\x00\x01\x00\x02\x01S\x07SIP+D2U\x00\x04_sip\x04_udp\x07example\x03com\x00"
                .to_vec())
        );
    }

    #[test]
    fn nothing_is_dropped_or_read_wrongly() {
        for (rtype, data) in [
            ("A", "192.0.2.1 192.0.2.2"),
            ("A", "192.0.2.300"),
            ("A", ""),
            ("TXT", ""),
            ("TXT", "v=DMARC1; p=none"),
            ("TXT", r#""\065""#),
            ("TXT", r"a\;b"),
            ("TXT", r#""open"#),
            ("TXT", r#""a""b""#),
            ("TXT", "\"a\nb\""),
            ("TXT", "a\n@ 0 IN A 192.0.2.1"),
            ("TXT", &format!("\"{}\"", "x".repeat(256))),
            ("MX", "mail"),
            ("MX", "65536 mail"),
            ("MX", "10 a..b"),
            ("CNAME", "@"),
            ("TLSA", "3 1 1 xyz"),
            ("SOA", "a. b. 1 2 3 4 5"),
            ("NS", "ns1.example.com."),
            ("DS", "1 8 2 00"),
            ("TYPE65534", "x"),
        ] {
            assert!(wire(rtype, data).is_err(), "{rtype} {data:?} must be refused");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_kept_octet_by_octet(text in "[^\\pC]{0,60}") {
            let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
            let mut octets = vec![text.len() as u8];
            octets.extend(text.as_bytes());
            prop_assert_eq!(wire("TXT", &format!("\"{quoted}\"")), Ok(octets));
        }

        #[test]
        fn no_data_panics(rtype in 0..RecordType::ALL.len(), data in r#"[a0.:=,"\\(;@$ ]{0,20}"#) {
            let _ = parse(RecordType::ALL[rtype], &data, None);
        }
    }
}
