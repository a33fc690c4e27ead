//! Queries put together octet by octet, so that wrong ones can be made too; replies as
//! hickory-proto reads them, which shares no code with the server.

use std::fmt;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};
use ipnet::IpNet;

/// Octets of the header (RFC 1035 §4.1.1).
pub(crate) const HEADER: usize = 12;

/// RCODEs by their mnemonics.
pub(crate) const NOERROR: u16 = 0;
pub(crate) const FORMERR: u16 = 1;
pub(crate) const SERVFAIL: u16 = 2;
pub(crate) const NXDOMAIN: u16 = 3;
pub(crate) const NOTIMP: u16 = 4;
pub(crate) const REFUSED: u16 = 5;
pub(crate) const BADVERS: u16 = 16;

/// Codes of EDNS options.
pub(crate) const NSID: u16 = 3;
pub(crate) const SUBNET: u16 = 8;
pub(crate) const EXTENDED_ERROR: u16 = 15;

/// A query; its fields are sent as they are.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) id: u16,
    /// The second word of the header.
    pub(crate) flags: u16,
    /// QNAME in wire form.
    pub(crate) name: Vec<u8>,
    pub(crate) qtype: u16,
    pub(crate) qclass: u16,
    pub(crate) opt: Option<Opt>,
}

/// The OPT record of a query or a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opt {
    pub(crate) payload: u16,
    /// The upper eight bits of the RCODE.
    pub(crate) extended_rcode: u8,
    pub(crate) version: u8,
    /// DO and the bits that must be zero.
    pub(crate) flags: u16,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

impl Default for Opt {
    fn default() -> Self {
        Self { payload: 1232, extended_rcode: 0, version: 0, flags: 0, options: Vec::new() }
    }
}

impl Opt {
    /// The bit DO (RFC 3225).
    pub(crate) const DO: u16 = 0x8000;

    /// With one more option.
    pub(crate) fn with(mut self, code: u16, data: &[u8]) -> Self {
        self.options.push((code, data.to_vec()));
        self
    }

    /// With Client Subnet as a resolver would send it.
    pub(crate) fn subnet(self, prefix: &str) -> Self {
        self.with(SUBNET, &subnet_option(prefix.parse().expect("a prefix")))
    }

    /// The record in wire form.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut rdata = Vec::new();
        for (code, data) in &self.options {
            rdata.extend_from_slice(&code.to_be_bytes());
            rdata.extend_from_slice(&(data.len() as u16).to_be_bytes());
            rdata.extend_from_slice(data);
        }
        let mut bytes = vec![0, 0, 41];
        bytes.extend_from_slice(&self.payload.to_be_bytes());
        bytes.extend_from_slice(&[self.extended_rcode, self.version]);
        bytes.extend_from_slice(&self.flags.to_be_bytes());
        bytes.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        bytes.extend(rdata);
        bytes
    }

    fn parse(class: u16, ttl: u32, mut rdata: &[u8]) -> Option<Self> {
        let [extended_rcode, version, high, low] = ttl.to_be_bytes();
        let mut options = Vec::new();
        while let Some((head, rest)) = rdata.split_first_chunk::<4>() {
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (data, rest) = rest.split_at_checked(len)?;
            options.push((u16::from_be_bytes([head[0], head[1]]), data.to_vec()));
            rdata = rest;
        }
        let flags = u16::from_be_bytes([high, low]);
        let opt = Self { payload: class, extended_rcode, version, flags, options };
        rdata.is_empty().then_some(opt)
    }
}

/// The data of a Client Subnet option of a query (RFC 7871 §6).
pub(crate) fn subnet_option(prefix: IpNet) -> Vec<u8> {
    let (family, octets) = match prefix.network() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let mut data = vec![0, family, prefix.prefix_len(), 0];
    data.extend_from_slice(&octets[..usize::from(prefix.prefix_len()).div_ceil(8)]);
    data
}

/// A name in wire form, its case kept; the final dot is optional.
pub(crate) fn wire_name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("a short label"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A type by its mnemonic or as `TYPE65280` (RFC 3597 §5).
pub(crate) fn type_number(text: &str) -> u16 {
    match text.strip_prefix("TYPE").and_then(|number| number.parse().ok()) {
        Some(number) => number,
        None => text.parse::<RecordType>().unwrap_or_else(|_| panic!("type {text}")).into(),
    }
}

impl Query {
    /// A query without EDNS for `name`, with RD set as `dig` does.
    pub(crate) fn new(name: &str, qtype: &str) -> Self {
        let (name, qtype) = (wire_name(name), type_number(qtype));
        Self { id: 0x4d52, flags: 0x0100, name, qtype, qclass: 1, opt: None }
    }

    /// With EDNS.
    pub(crate) fn opt(mut self, opt: Opt) -> Self {
        self.opt = Some(opt);
        self
    }

    /// The question in wire form.
    pub(crate) fn question(&self) -> Vec<u8> {
        [&self.name[..], &self.qtype.to_be_bytes(), &self.qclass.to_be_bytes()].concat()
    }

    /// The message in wire form.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let records: Vec<Vec<u8>> = self.opt.iter().map(Opt::bytes).collect();
        self.bytes_with(1, &records)
    }

    /// The message with QDCOUNT and additional records as given.
    pub(crate) fn bytes_with(&self, questions: u16, additional: &[Vec<u8>]) -> Vec<u8> {
        let counts = [questions, 0, 0, additional.len() as u16];
        let head = [self.id, self.flags].into_iter().chain(counts);
        let mut bytes: Vec<u8> = head.flat_map(u16::to_be_bytes).collect();
        for _ in 0..questions {
            bytes.extend(self.question());
        }
        bytes.extend(additional.concat());
        bytes
    }
}

/// A reply that was read whole.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) message: Message,
    pub(crate) opt: Option<Opt>,
}

impl Reply {
    /// Reads a reply; says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut readable = bytes.to_vec();
        let mut opt = None;
        if let Some(record) = opt_record(bytes)? {
            let found = record.read().ok_or("options that do not add up")?;
            // hickory-proto knows no Client Subnet of family 0, so it gets the options under a
            // code that it does not look into.
            let mut at = record.rdata_at;
            for (code, data) in &found.options {
                if *code == SUBNET {
                    readable[at..at + 2].copy_from_slice(&0xfde9u16.to_be_bytes());
                }
                at += 4 + data.len();
            }
            opt = Some(found);
        }
        let message = Message::from_vec(&readable).map_err(|error| error.to_string())?;
        Ok(Self { bytes: bytes.to_vec(), message, opt })
    }

    /// RCODE with the bits of the OPT record (RFC 6891 §6.1.3).
    pub(crate) fn rcode(&self) -> u16 {
        let high = self.opt.as_ref().map_or(0, |opt| u16::from(opt.extended_rcode));
        high << 4 | u16::from(self.bytes[3] & 0xf)
    }

    /// The header flags that are set, of AA, TC, RD, RA, AD and CD.
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        let bits = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        let names =
            [(0x400, "aa"), (0x200, "tc"), (0x100, "rd"), (0x80, "ra"), (0x20, "ad"), (0x10, "cd")];
        names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect()
    }

    /// The question section as it stands in the message.
    pub(crate) fn has_question(&self, question: &[u8]) -> bool {
        self.bytes[4..6] == [0, 1] && self.bytes[HEADER..].starts_with(question)
    }

    /// The answer section, a line a record: owner, TTL, type, data.
    pub(crate) fn answer(&self) -> Vec<String> {
        self.message.answers.iter().map(line).collect()
    }

    /// The authority section.
    pub(crate) fn authority(&self) -> Vec<String> {
        self.message.authorities.iter().map(line).collect()
    }

    /// The additional section without OPT.
    pub(crate) fn additional(&self) -> Vec<String> {
        self.message.additionals.iter().map(line).collect()
    }

    /// The data of the option `code`, where it stands exactly once.
    pub(crate) fn option(&self, code: u16) -> Option<&[u8]> {
        let options = &self.opt.as_ref()?.options;
        let mut found = options.iter().filter(|(other, _)| *other == code);
        let first = found.next()?;
        found.next().is_none().then_some(&first.1)
    }

    /// SCOPE PREFIX-LENGTH of Client Subnet (RFC 7871 §6).
    pub(crate) fn scope(&self) -> Option<u8> {
        self.option(SUBNET)?.get(3).copied()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rcode {}, flags {:?}, {:?}", self.rcode(), self.flags(), self.opt)?;
        let sections = [
            ("answer", self.answer()),
            ("authority", self.authority()),
            ("additional", self.additional()),
        ];
        for (section, records) in sections {
            for record in records {
                writeln!(f, "  {section}: {record}")?;
            }
        }
        Ok(())
    }
}

fn line(record: &Record) -> String {
    format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data)
}

/// An OPT record as it stands in a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptRecord<'m> {
    /// CLASS: the payload size.
    pub(crate) payload: u16,
    ttl: u32,
    rdata_at: usize,
    rdata: &'m [u8],
}

impl OptRecord<'_> {
    /// Its fields; `None` where the options do not add up.
    pub(crate) fn read(&self) -> Option<Opt> {
        Opt::parse(self.payload, self.ttl, self.rdata)
    }
}

/// The one OPT record of a message, which is walked through to its last octet.
pub(crate) fn opt_record(bytes: &[u8]) -> Result<Option<OptRecord<'_>>, String> {
    let word = |at: usize| -> Result<u16, String> {
        let word = bytes.get(at..at + 2).ok_or("the message ends early")?;
        Ok(u16::from_be_bytes([word[0], word[1]]))
    };
    let mut at = HEADER;
    for _ in 0..word(4)? {
        at = skip_name(bytes, at)? + 4;
    }
    let before = usize::from(word(6)?) + usize::from(word(8)?);
    let mut opt = None;
    for index in 0..before + usize::from(word(10)?) {
        at = skip_name(bytes, at)?;
        let (rtype, payload, len) = (word(at)?, word(at + 2)?, usize::from(word(at + 8)?));
        let ttl = u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?);
        let rdata_at = at + 10;
        let rdata = bytes.get(rdata_at..rdata_at + len).ok_or("RDATA ends early")?;
        if rtype == 41 {
            if index < before || opt.is_some() {
                return Err("an OPT record out of place".into());
            }
            opt = Some(OptRecord { payload, ttl, rdata_at, rdata });
        }
        at = rdata_at + len;
    }
    if at == bytes.len() { Ok(opt) } else { Err("the message does not end where it should".into()) }
}

/// Where the name at `at` ends.
pub(crate) fn skip_name(bytes: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        match bytes.get(at).ok_or("a name ends early")? {
            0 => return Ok(at + 1),
            len @ 1..=63 => at += 1 + usize::from(*len),
            0xc0.. => return Ok(at + 2),
            _ => return Err("a label of unknown kind".into()),
        }
    }
}
