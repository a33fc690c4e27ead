//! Plain vocabulary shared by every other module.
//!
//! *Owns*: labels and names, service keys, cluster ids and sets, what one cluster says of its
//! services ([`ClusterView`]), and the bucket arrays that make "what changed?" a comparison of
//! pointers. *Guarantees*: every value is valid once constructed. *Does not*: know kube, tokio or
//! the DNS message format.

mod buckets;
mod check;
mod cluster;
mod force;
mod label;
mod line;
mod name;
mod options;
mod set;
mod shard;

pub use buckets::{BUCKETS, Buckets, Keyed, bucket_of, differing};
pub use check::{
    BodyCheck, Check, CheckFault, CheckKind, CheckMode, CheckTiming, ClusterChecks, DnsCheck,
    DnsTransport, DnsType, GrpcCheck, HttpCheck, HttpMethod, Pattern, ServiceCheck, StatusSet,
    TlsCheck, Verify,
};
pub use cluster::{ClusterView, Coordinates, InvalidCoordinates, Member, Report, Topology};
pub use force::{Force, Forced, Until};
pub use label::{InvalidLabel, Label};
pub use line::one_line;
pub use name::{DomainName, InvalidName, labels};
pub use options::{InvalidOption, is_metadata_service, unusable_address};
pub use set::{ClusterId, ClusterSet};
pub use shard::{
    Drain, Endpoints, Internal, MinReady, Policy, Port, Protocol, Refusal, ServiceKey,
    ServiceOptions, Shard, ShardEntry, Ties, WhenNoneHealthy, key_hash,
};
