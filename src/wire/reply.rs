//! Writing of replies.

use super::edns::ReplyEdns;
use super::number::{class, rtype};
use super::query::{HEADER_LEN, Header};

/// Pointer to the name of the question, which stands right after the header (RFC 1035 §4.1.4).
const QUESTION_POINTER: u16 = 0xc000 | HEADER_LEN as u16;

/// Octets of a record in front of its RDATA, its owner a pointer.
const HEAD_LEN: usize = 12;

/// The reply has no room for what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A section that records are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answer.
    Answer = 0,
    /// Authority.
    Authority = 1,
    /// Additional.
    Additional = 2,
}

/// The owner of a record: where in the message its name begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u16);

impl Owner {
    /// The name of the question.
    pub const QUESTION: Self = Self(QUESTION_POINTER);

    /// The name that begins `offset` octets into the question's name.
    #[must_use]
    #[inline]
    pub fn in_question(offset: usize) -> Self {
        Self(QUESTION_POINTER + offset as u16)
    }

    /// The compression pointer (RFC 1035 §4.1.4).
    #[must_use]
    #[inline]
    pub fn octets(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

/// A reply in the making, within a limit of octets that keeps room for the OPT record.
///
/// Invariant: `at <= limit <= buffer.len()`.
#[derive(Debug)]
pub struct Reply<'b> {
    buffer: &'b mut [u8],
    at: usize,
    limit: usize,
    counts: [u16; 3],
    question: usize,
}

/// What all records of an RRset of addresses begin with: owner, type, class, TTL, RDLENGTH.
#[derive(Clone, Copy, Debug)]
pub struct AddressHead<const N: usize>([u8; HEAD_LEN]);

impl AddressHead<4> {
    /// The head of A records.
    #[must_use]
    #[inline]
    pub fn v4(owner: Owner, ttl: u32) -> Self {
        Self(head(owner, rtype::A, class::IN, ttl, 4))
    }

    /// A whole record.
    #[must_use]
    #[inline]
    pub fn record(&self, octets: &[u8; 4]) -> [u8; HEAD_LEN + 4] {
        let mut record = [0; HEAD_LEN + 4];
        record[..HEAD_LEN].copy_from_slice(&self.0);
        record[HEAD_LEN..].copy_from_slice(octets);
        record
    }
}

impl AddressHead<16> {
    /// The head of AAAA records.
    #[must_use]
    #[inline]
    pub fn v6(owner: Owner, ttl: u32) -> Self {
        Self(head(owner, rtype::AAAA, class::IN, ttl, 16))
    }

    /// A whole record.
    #[must_use]
    #[inline]
    pub fn record(&self, octets: &[u8; 16]) -> [u8; HEAD_LEN + 16] {
        let mut record = [0; HEAD_LEN + 16];
        record[..HEAD_LEN].copy_from_slice(&self.0);
        record[HEAD_LEN..].copy_from_slice(octets);
        record
    }
}

/// The fixed part of a record (RFC 1035 §4.1.3).
#[inline]
fn head(owner: Owner, rtype: u16, class: u16, ttl: u32, rdata_len: u16) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[..2].copy_from_slice(&owner.0.to_be_bytes());
    head[2..4].copy_from_slice(&rtype.to_be_bytes());
    head[4..6].copy_from_slice(&class.to_be_bytes());
    head[6..10].copy_from_slice(&ttl.to_be_bytes());
    head[10..].copy_from_slice(&rdata_len.to_be_bytes());
    head
}

/// A place to come back to, where an RRset does not fit whole.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: usize,
    counts: [u16; 3],
}

impl<'b> Reply<'b> {
    /// Begins a reply of at most `limit` octets that repeats `question` (empty: none).
    /// `buffer` has at least `limit` and 512 octets, so that header, question and OPT always fit.
    #[inline]
    pub fn new(
        buffer: &'b mut [u8],
        limit: usize,
        question: &[u8],
        edns: Option<&ReplyEdns<'_>>,
    ) -> Self {
        let at = HEADER_LEN + question.len();
        buffer[HEADER_LEN..at].copy_from_slice(question);
        let limit = limit.min(buffer.len()) - edns.map_or(0, ReplyEdns::len);
        Self { buffer, at, limit, counts: [0; 3], question: question.len() }
    }

    /// Where the reply stands now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { at: self.at, counts: self.counts }
    }

    /// Takes back all that was written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.at = mark.at;
        self.counts = mark.counts;
    }

    /// Records in a section so far.
    #[must_use]
    pub fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    /// Writes a record of class IN whose RDATA is `parts` put together.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    #[inline]
    pub fn record(
        &mut self,
        section: Section,
        owner: Owner,
        rtype: u16,
        ttl: u32,
        parts: &[&[u8]],
    ) -> Result<(), Full> {
        self.record_in(class::IN, section, owner, rtype, ttl, parts)
    }

    /// Writes one record of an RRset of addresses.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    #[inline]
    pub fn address<const N: usize>(
        &mut self,
        head: &AddressHead<N>,
        octets: &[u8; N],
    ) -> Result<(), Full> {
        let end = self.at + head.0.len() + N;
        if end > self.limit {
            return Err(Full);
        }
        let (fixed, rdata) = self.buffer[self.at..end].split_at_mut(head.0.len());
        fixed.copy_from_slice(&head.0);
        rdata.copy_from_slice(octets);
        self.at = end;
        self.counts[Section::Answer as usize] += 1;
        Ok(())
    }

    /// Whether an address stands among the records of its RRset, all of which were written since
    /// `mark` by [`Self::address`].
    #[must_use]
    pub fn holds<const N: usize>(&self, mark: Mark, octets: &[u8; N]) -> bool {
        let written = &self.buffer[mark.at..self.at];
        written.chunks_exact(HEAD_LEN + N).any(|record| record[HEAD_LEN..] == *octets)
    }

    /// Writes the one TXT record of a CHAOS answer (RFC 4892 §2), TTL 0.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    pub fn chaos(&mut self, text: &[u8]) -> Result<(), Full> {
        let len = [text.len() as u8];
        let parts = [&len[..], text];
        self.record_in(class::CH, Section::Answer, Owner::QUESTION, rtype::TXT, 0, &parts)
    }

    #[inline]
    fn record_in(
        &mut self,
        class: u16,
        section: Section,
        owner: Owner,
        rtype: u16,
        ttl: u32,
        parts: &[&[u8]],
    ) -> Result<(), Full> {
        let rdata_len: usize = parts.iter().map(|part| part.len()).sum();
        let end = self.at + 12 + rdata_len;
        if end > self.limit {
            return Err(Full);
        }
        let fixed = head(owner, rtype, class, ttl, rdata_len as u16);
        let out = &mut self.buffer[self.at..end];
        out[..12].copy_from_slice(&fixed);
        let mut at = 12;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.at = end;
        self.counts[section as usize] += 1;
        Ok(())
    }

    /// A record whose RDATA ends in the name `labels` followed by the suffix of the question at
    /// `suffix`: compressed to a pointer, so that a chain repeats no zone name. Gives the owner
    /// for records at that name.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    pub fn cname(
        &mut self,
        owner: Owner,
        ttl: u32,
        labels: &[&[u8]],
        suffix: Owner,
    ) -> Result<Owner, Full> {
        let target = self.at + 12;
        let pointer = suffix.0.to_be_bytes();
        let mut parts = [&[][..]; MAX_NAME_PARTS + 1];
        parts[..labels.len()].copy_from_slice(labels);
        parts[labels.len()] = &pointer;
        self.record(Section::Answer, owner, rtype::CNAME, ttl, &parts[..=labels.len()])?;
        // A chain stands right behind the question, so its targets are always within reach.
        Owner::at(target).ok_or(Full)
    }

    /// A CNAME whose target shares nothing with the question: `labels` followed by `apex`, in
    /// full. Gives the owners for records at the target and at the apex behind it.
    ///
    /// # Errors
    /// [`Full`], with nothing written.
    pub fn cname_in_full(
        &mut self,
        owner: Owner,
        ttl: u32,
        labels: [&[u8]; 3],
        apex: &[u8],
    ) -> Result<(Owner, Owner), Full> {
        let target = self.at + 12;
        let [a, b, c] = labels;
        self.record(Section::Answer, owner, rtype::CNAME, ttl, &[a, b, c, apex])?;
        let behind = target + a.len() + b.len() + c.len();
        Owner::at(target).zip(Owner::at(behind)).ok_or(Full)
    }

    /// Writes an RRset of the additional section at the name `labels` in front of a name that
    /// stands in the message already.
    ///
    /// # Errors
    /// [`Full`], with nothing written: an RRset is sent whole or not at all (RFC 2181 §9).
    pub fn additional<R: AsRef<[u8]>>(
        &mut self,
        (labels, suffix): (&[u8], Owner),
        rtype: u16,
        ttl: u32,
        rrset: &[R],
    ) -> Result<(), Full> {
        let sizes = rrset.iter().map(|rdata| labels.len() + HEAD_LEN + rdata.as_ref().len());
        if self.at + sizes.sum::<usize>() > self.limit {
            return Err(Full);
        }
        for rdata in rrset {
            // The fixed part begins with the pointer that ends the owner's name.
            self.buffer[self.at..self.at + labels.len()].copy_from_slice(labels);
            self.at += labels.len();
            self.record(Section::Additional, suffix, rtype, ttl, &[rdata.as_ref()])?;
        }
        Ok(())
    }

    /// The octets written so far, for those that point back into the message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing stands after the question.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at == HEADER_LEN + self.question
    }

    /// Completes header and OPT; gives the octets of the whole.
    #[inline]
    pub fn finish(
        mut self,
        header: Header,
        flags: Flags,
        rcode: u16,
        edns: Option<(&ReplyEdns<'_>, u8)>,
    ) -> usize {
        if let Some((edns, scope)) = edns {
            edns.write(rcode, scope, &mut self.buffer[self.at..]);
            self.at += edns.len();
            self.counts[Section::Additional as usize] += 1;
        }
        let questions = u16::from(self.question != 0);
        let [answer, authority, additional] = self.counts;
        let head = header.reply(flags, rcode, [questions, answer, authority, additional]);
        self.buffer[..HEADER_LEN].copy_from_slice(&head);
        self.at
    }
}

/// The most parts that a compressed target is put together from: port and protocol, service and
/// namespace, the rest of its level.
pub const MAX_NAME_PARTS: usize = 4;

impl Owner {
    /// The name that begins at `offset` of the message; `None` beyond the reach of a compression
    /// pointer, 14 bits.
    #[must_use]
    pub fn at(offset: usize) -> Option<Self> {
        (offset < 0x4000).then_some(Self(0xc000 | offset as u16))
    }
}

/// Header flags of a reply that its content decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// AA: the name is in a zone of ours.
    pub authoritative: bool,
    /// TC: something that belongs to the reply did not fit.
    pub truncated: bool,
}
