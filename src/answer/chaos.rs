//! Class CHAOS: the server's own identity (RFC 4892), where the operator tells it.

use super::Answer;
use crate::wire::Full;
use crate::wire::number::{rcode, rtype};

impl Answer<'_, '_, '_> {
    pub(super) fn chaos(&mut self) -> Result<(), Full> {
        let identity = self.snapshot.identity();
        let text = match self.query.name.wire() {
            b"\x07version\x04bind\x00" | b"\x07version\x06server\x00" => &identity.version,
            b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => &identity.id,
            _ => &None,
        };
        match text {
            Some(text) if matches!(self.query.qtype, rtype::TXT | rtype::ANY) => {
                self.flags.authoritative = true;
                self.reply.chaos(text.as_bytes())
            }
            Some(_) => Ok(()),
            None => self.fail(rcode::REFUSED, None),
        }
    }
}
