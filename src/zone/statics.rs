//! Records that do not come from clusters: the apex, name servers, the operator's own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::Settings;
use crate::model::DomainName;
use crate::wire::number::rtype;

/// The records of one type at one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RrSet {
    /// RR type number.
    pub rtype: u16,
    /// Seconds.
    pub ttl: u32,
    /// RDATA in wire form, uncompressed.
    pub rdata: Vec<Box<[u8]>>,
}

/// A static name; without RRsets it is an empty non-terminal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StaticNode {
    rrsets: Vec<RrSet>,
}

impl StaticNode {
    /// A node with NS records alone, one for each name server.
    pub(super) fn of_nameservers(settings: &Settings) -> Self {
        let rdata = settings.nameservers.iter().map(|server| server.name.wire().into()).collect();
        Self { rrsets: vec![RrSet { rtype: rtype::NS, ttl: settings.ttl, rdata }] }
    }

    /// The RRset of a type, or the CNAME that stands for it.
    #[must_use]
    pub fn rrset(&self, qtype: u16) -> Option<&RrSet> {
        let of = |wanted| self.rrsets.iter().find(move |set| set.rtype == wanted);
        match qtype {
            // RFC 8482 §4.1: a responder may answer ANY with one RRset of its choice.
            rtype::ANY => self.rrsets.first(),
            _ => of(qtype).or_else(|| of(rtype::CNAME)),
        }
    }

    /// All RRsets.
    #[must_use]
    pub fn rrsets(&self) -> &[RrSet] {
        &self.rrsets
    }
}

/// Static names within D by their labels in front of D, the apex among them.
#[derive(Debug, Default, PartialEq)]
pub struct Statics {
    nodes: HashMap<Box<[u8]>, StaticNode, FixedState>,
}

impl Statics {
    /// Collects NS, their hosts' addresses and the configured records.
    #[must_use]
    pub fn compile(settings: &Settings) -> Self {
        let mut statics = Self::default();
        statics.nodes.insert(Box::default(), StaticNode::default());
        for server in &settings.nameservers {
            let name = server.name.wire().into();
            statics.add(settings, &settings.domain, rtype::NS, settings.ttl, name);
            if server.name.is_within(&settings.domain) {
                for address in &server.addresses {
                    let (rtype, rdata): (u16, Box<[u8]>) = match address {
                        IpAddr::V4(a) => (rtype::A, a.octets().into()),
                        IpAddr::V6(a) => (rtype::AAAA, a.octets().into()),
                    };
                    statics.add(settings, &server.name, rtype, settings.ttl, rdata);
                }
            }
        }
        for record in &settings.records {
            let rdata = record.rdata.clone();
            statics.add(settings, &record.owner, record.rtype, record.ttl, rdata);
        }
        statics
    }

    /// Adds a record at `owner`, and empty non-terminals between it and the apex.
    fn add(
        &mut self,
        settings: &Settings,
        owner: &DomainName,
        rtype: u16,
        ttl: u32,
        rdata: Box<[u8]>,
    ) {
        let above = owner.wire().len() - settings.domain.wire().len();
        let mut relative = &owner.wire()[..above];
        let node = self.nodes.entry(relative.into()).or_default();
        match node.rrsets.iter_mut().find(|set| set.rtype == rtype) {
            Some(set) if set.rdata.contains(&rdata) => {}
            Some(set) => set.rdata.push(rdata),
            None => node.rrsets.push(RrSet { rtype, ttl, rdata: vec![rdata] }),
        }
        while let [len, rest @ ..] = relative {
            relative = &rest[usize::from(*len)..];
            self.nodes.entry(relative.into()).or_default();
        }
    }

    /// The node at the labels `relative` in front of D, in lower-case wire form.
    #[must_use]
    pub fn get(&self, relative: &[u8]) -> Option<&StaticNode> {
        self.nodes.get(relative)
    }

    /// Whether any name, given by its labels in front of D, is such.
    pub(super) fn any(&self, is_such: impl Fn(&[u8]) -> bool) -> bool {
        self.nodes.keys().any(|relative| is_such(relative))
    }

    /// All nodes sorted by their labels in front of D.
    #[must_use]
    pub fn sorted(&self) -> BTreeMap<&[u8], &StaticNode> {
        self.nodes.iter().map(|(name, node)| (&**name, node)).collect()
    }
}
