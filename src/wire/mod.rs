//! Bytes to query, answer to bytes: message format, EDNS, Client Subnet, truncation.
//!
//! *Owns*: [`Query`] (a parsed request), [`Reply`] (a reply being written) and the numbers of the
//! protocol. *Guarantees*: no input panics; a reply never exceeds its limit; neither allocates.
//! *Does not*: decide what is answered.
//!
//! | standard | where |
//! |---|---|
//! | RFC 1035 §4.1 message format | [`query`], [`reply`] |
//! | RFC 6891 EDNS(0) | [`edns`] |
//! | RFC 7871 Client Subnet | [`subnet`] |
//! | RFC 5001 NSID | [`edns`] |

pub mod edns;
pub mod number;
pub mod query;
pub mod question;
pub mod reply;
pub mod subnet;

pub use edns::Edns;
pub use edns::{ExtendedError, ReplyEdns};
pub use query::{Header, InvalidMessage, Query};
pub use question::QuestionName;
pub use reply::{AddressHead, Flags, Full, Mark, Owner, Reply, Section};
pub use subnet::{ClientSubnet, InvalidSubnet};
