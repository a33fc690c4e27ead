//! A query read in the common way, before any snapshot is asked.

use std::net::{IpAddr, Ipv4Addr};

use super::Entry;
use super::draft::Draft;
use crate::model::key_hash;
use crate::snapshot::Snapshot;
use crate::wire::number::rtype;
use crate::wire::query::HEADER_LEN;
use crate::wire::question::fold;
use crate::wire::{ClientSubnet, Edns, edns, subnet};

/// Room for a name. Longer ones are rare and take the long way.
const NAME: usize = 128;

/// QR and opcode in the header's flags: zero in a standard query.
const NOT_A_QUERY: u16 = 0xf800;

/// A query as far as the short way has to know it, read before it is answered: so the memory
/// that its answer will need can be fetched while others are answered.
///
/// It does not borrow the query, so that it can be read in place and never has to be moved.
#[derive(Debug, Default)]
pub struct Ahead {
    /// Whether it is asked in the common way; if not, nothing else counts.
    common: bool,
    asked: Asked,
}

/// Where a query is answered from, and what was found there under the hash of its key.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s> {
    pub(in crate::answer) snapshot: &'s Snapshot,
    /// No more than a hint: where nothing is told, it is looked for.
    pub(super) entry: Option<&'s Entry>,
}

impl<'s> Found<'s> {
    /// Of a query for which nothing was looked for yet.
    #[must_use]
    #[inline]
    pub fn nothing(snapshot: &'s Snapshot) -> Self {
        Self { snapshot, entry: None }
    }

    /// The key of what was found.
    #[cfg(test)]
    pub(crate) fn key(self) -> Option<&'s [u8]> {
        Some(self.entry?.service().key.wire())
    }

    /// The fourth of the steps that [`Ahead`] begins.
    #[inline]
    pub fn fetch_behind(self) {
        if let Some(entry) = self.entry {
            entry.service().fetch_behind();
        }
    }
}

impl Ahead {
    /// Reads a query.
    #[inline]
    pub fn read(&mut self, query: &[u8]) {
        self.common = self.asked.read(query).is_some();
    }

    /// The first of four steps that have fetched what its answer will read, and change nothing of
    /// it. Each needs what the step before has asked for, and is best done a while after that.
    #[inline]
    pub fn fetch_directory(&self, snapshot: &Snapshot) {
        if self.common {
            snapshot.fetch_directory(self.asked.hash, self.asked.opt.subnet);
        }
    }

    /// The second.
    #[inline]
    pub fn fetch_near(&self, snapshot: &Snapshot) {
        if self.common {
            snapshot.fetch_near(self.asked.hash, self.asked.opt.subnet);
        }
    }

    /// The third.
    #[inline]
    pub fn fetch_found<'s>(&self, snapshot: &'s Snapshot) -> Found<'s> {
        let entry = self.common.then(|| snapshot.fetch_found(self.asked.hash)).flatten();
        Found { snapshot, entry }
    }

    /// What is asked, if it is asked in the common way.
    #[inline]
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.common.then_some(&self.asked)
    }
}

/// What is asked: a standard query of class IN, with no record beside an OPT.
#[derive(Debug)]
pub(super) struct Asked {
    /// The name in lower case; what stands behind it is arbitrary.
    name: [u8; NAME],
    /// Where in the name its first two labels end, which are a service's if any.
    key: u8,
    /// Octets of the name, root included.
    len: u8,
    /// The hash of the first two labels.
    pub(super) hash: u64,
    pub(super) qtype: u16,
    pub(super) opt: Opt,
}

impl Default for Asked {
    fn default() -> Self {
        Self { name: [0; NAME], key: 0, len: 0, hash: 0, qtype: 0, opt: Opt::default() }
    }
}

impl Asked {
    /// Reads all but what the name ends in, which is well-formed if names of the zone end so.
    #[inline]
    fn read(&mut self, query: &[u8]) -> Option<()> {
        let (head, body) = query.split_first_chunk::<HEADER_LEN>()?;
        let [_, _, f0, f1, counts @ ..] = *head;
        if u16::from_be_bytes([f0, f1]) & NOT_A_QUERY != 0 {
            return None;
        }
        // One question, and at most one additional record. What stands behind the name has one
        // length in nearly all queries, and so tells where the name ends.
        let behind = match u64::from_be_bytes(counts) ^ 1 << 48 {
            0 => {
                self.opt = Opt::default();
                0
            }
            1 => match Opt::usual(body) {
                Some(opt) => {
                    self.opt = opt;
                    size_of::<Usual>()
                }
                None => self.opt.read_any(query)?,
            },
            _ => return None,
        };
        let len = body.len().checked_sub(behind + 4).filter(|len| *len <= NAME)?;
        let (name, question) = body.split_at(len);
        let [t0, t1, 0, 1] = *question.first_chunk()? else { return None };
        self.qtype = u16::from_be_bytes([t0, t1]);
        if !matches!(self.qtype, 1..rtype::FIRST_META) || self.qtype == rtype::OPT {
            return None;
        }
        let key = after_label(name, after_label(name, 0)?)?;
        fold(name, &mut self.name);
        (self.key, self.len) = (key as u8, len as u8);
        self.hash = key_hash(self.name.get(..key)?);
        Some(())
    }

    /// The first two labels, in lower case.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        &self.name[..self.key.into()]
    }

    /// What follows them, root included: always something.
    #[inline]
    pub(super) fn end(&self) -> Option<&[u8]> {
        self.name.get(self.key.into()..self.len.into())
    }

    /// The first label without its length, the next two, and what follows them, root included:
    /// cluster, key and end if it is the name of a shard.
    #[inline]
    pub(super) fn shard(&self) -> Option<(&[u8], &[u8], &[u8])> {
        let name = self.name.get(..self.len.into())?;
        let first = after_label(name, 0)?;
        let second = after_label(name, self.key.into())?;
        Some((name.get(1..first)?, name.get(first..second)?, name.get(second..)?))
    }

    /// Octets of the name, root included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.into()
    }
}

/// Where the label that begins `at` ends; `None` at the root, and where there is no label.
#[inline]
fn after_label(name: &[u8], at: usize) -> Option<usize> {
    match *name.get(at)? {
        len @ 1..=63 => Some(at + 1 + usize::from(len)),
        _ => None,
    }
}

/// An OPT record whose only option is the /24 of an IPv4 client: what nearly all that are asked for
/// an answer by place send. It is read and written whole.
type Usual = [u8; 22];

/// An OPT record, as far as it says what most do.
#[derive(Debug, Default)]
pub(super) struct Opt {
    form: Form,
    dnssec_ok: bool,
    pub(super) payload: u16,
    /// The client's prefix, where the query tells it.
    pub(super) subnet: Option<IpAddr>,
}

/// What the reply's record has to repeat.
#[derive(Clone, Copy, Debug, Default)]
enum Form {
    /// There is none.
    #[default]
    Absent,
    /// A [`Usual`] record, the last octets of the query.
    Usual,
    /// The Client Subnet option that stands here in the query, if it is not empty: the reply
    /// repeats it but for the scope.
    Other { start: u16, len: u16 },
}

impl Opt {
    /// The [`Usual`] record, if a message ends in one.
    #[inline]
    fn usual(body: &[u8]) -> Option<Self> {
        let record: &Usual = body.last_chunk()?;
        let [0, 0, 41, p0, p1, _, 0, flags, _, 0, 11, option @ ..] = *record else { return None };
        let [0, 8, 0, 7, 0, 1, 24, 0, a, b, c] = option else { return None };
        Some(Self {
            form: Form::Usual,
            dnssec_ok: flags & 0x80 != 0,
            payload: u16::from_be_bytes([p0, p1]),
            subnet: Some(Ipv4Addr::new(a, b, c, 0).into()),
        })
    }

    /// Reads what other record may be all that stands behind the question; gives its length.
    #[inline(never)]
    fn read_any(&mut self, query: &[u8]) -> Option<usize> {
        let mut at = HEADER_LEN;
        while let Some(next) = after_label(query, at) {
            at = next;
        }
        // The root, type and class.
        let record = query.get(at + 5..)?;
        let (fixed, mut data) = record.split_first_chunk::<{ Edns::BARE_LEN }>()?;
        let [0, t0, t1, p0, p1, _, 0, flags, _, l0, l1] = *fixed else { return None };
        let is_opt = u16::from_be_bytes([t0, t1]) == rtype::OPT;
        if !is_opt || usize::from(u16::from_be_bytes([l0, l1])) != data.len() {
            return None;
        }
        let (mut start, mut len, mut subnet) = (0, 0, None);
        while let [c0, c1, l0, l1, rest @ ..] = data {
            let octets = usize::from(u16::from_be_bytes([*l0, *l1]));
            let (option, after) = rest.split_at_checked(octets)?;
            match u16::from_be_bytes([*c0, *c1]) {
                subnet::CODE if len == 0 => {
                    subnet = ClientSubnet::parse(option).ok()?.address();
                    start = u16::try_from(query.len() - data.len()).ok()?;
                    len = 4 + octets as u16;
                }
                // Twice, which is malformed; or the server's identifier is asked for.
                subnet::CODE | edns::NSID => return None,
                _ => {}
            }
            data = after;
        }
        *self = Self {
            form: Form::Other { start, len },
            dnssec_ok: flags & 0x80 != 0,
            payload: u16::from_be_bytes([p0, p1]),
            subnet,
        };
        data.is_empty().then_some(record.len())
    }

    /// Whether the query has one, and so the reply.
    #[inline]
    pub(super) fn is_present(&self) -> bool {
        !matches!(self.form, Form::Absent)
    }

    /// Puts the reply's record, if it has one, with our `payload`, behind what was drafted.
    #[inline]
    pub(super) fn write(
        &self,
        query: &[u8],
        payload: u16,
        scope: u8,
        draft: &mut Draft<'_>,
    ) -> Option<()> {
        let [p0, p1] = payload.to_be_bytes();
        // Extended RCODE and version 0, DO as it was, zeros.
        let flags = u8::from(self.dnssec_ok) << 7;
        match self.form {
            Form::Absent => Some(()),
            Form::Usual => {
                // All that follows the question.
                let option = query.last_chunk::<11>()?;
                let room: &mut Usual = draft.room()?;
                room[..11].copy_from_slice(&[0, 0, 41, p0, p1, 0, 0, flags, 0, 0, 11]);
                room[11..].copy_from_slice(option);
                room[11 + subnet::SCOPE_AT] = scope;
                Some(())
            }
            Form::Other { start, len } => {
                let (start, len) = (usize::from(start), usize::from(len));
                let option = query.get(start..start + len)?;
                let [l0, l1] = (len as u16).to_be_bytes();
                draft.put(&[0, 0, 41, p0, p1, 0, 0, flags, 0, l0, l1])?;
                draft.put_option(option, scope)
            }
        }
    }
}
