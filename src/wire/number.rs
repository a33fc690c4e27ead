//! Assigned numbers, as far as the server acts on them.

/// RR types and query types (IANA "Resource Record (RR) TYPEs").
pub mod rtype {
    /// RFC 1035 §3.2.2.
    pub const A: u16 = 1;
    /// RFC 1035 §3.2.2.
    pub const NS: u16 = 2;
    /// RFC 1035 §3.2.2.
    pub const CNAME: u16 = 5;
    /// RFC 1035 §3.2.2.
    pub const SOA: u16 = 6;
    /// RFC 1035 §3.2.2.
    pub const TXT: u16 = 16;
    /// RFC 3596 §2.1.
    pub const AAAA: u16 = 28;
    /// RFC 2782.
    pub const SRV: u16 = 33;
    /// RFC 6891 §6.1.1.
    pub const OPT: u16 = 41;
    /// First of the query-only types 128–255 (RFC 6895 §3.1).
    pub const FIRST_META: u16 = 128;
    /// RFC 1995.
    pub const IXFR: u16 = 251;
    /// RFC 5936.
    pub const AXFR: u16 = 252;
    /// RFC 8482.
    pub const ANY: u16 = 255;
}

/// Classes.
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// CHAOS, used for a server's own identity (RFC 4892 §2).
    pub const CH: u16 = 3;
}

/// Response codes (IANA "DNS RCODEs"), extended ones included.
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query could not be read.
    pub const FORMERR: u16 = 1;
    /// The answer is not known yet.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The kind of query is not offered.
    pub const NOTIMP: u16 = 4;
    /// Not our zone, or not offered to anyone.
    pub const REFUSED: u16 = 5;
    /// Unknown EDNS version (RFC 6891 §6.1.3).
    pub const BADVERS: u16 = 16;
}
