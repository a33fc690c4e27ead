//! Plain vocabulary shared by every other module.
//!
//! *Owns*: labels and names, service keys, cluster ids and sets, what one cluster says of its
//! services ([`ClusterView`]), and the bucket arrays that make "what changed?" a comparison of
//! pointers. *Guarantees*: every value is valid once constructed. *Does not*: know kube, tokio or
//! the DNS message format.

mod buckets;
mod check;
mod cluster;
mod fetch;
mod force;
mod key;
mod label;
mod line;
mod lists;
mod name;
mod options;
mod pool;
mod set;
mod shard;

pub use buckets::{BUCKETS, Buckets, Keyed, bucket_of, differing};
pub use check::{
    BodyCheck, Check, CheckFault, CheckKind, CheckMode, CheckTiming, ClusterChecks, DnsCheck,
    DnsTransport, DnsType, GrpcCheck, HttpCheck, HttpMethod, Pattern, ServiceCheck, StatusSet,
    TlsCheck, Verify,
};
pub use cluster::{ClusterView, Coordinates, InvalidCoordinates, Member, Report, Topology};
pub use fetch::fetch;
pub use force::{Force, Forced, Until};
pub use key::{ServiceKey, key_hash};
pub use label::{InvalidLabel, Label};
pub use line::one_line;
pub use lists::{AddressList, Ports};
pub use name::{DomainName, InvalidName, labels};
pub use options::{InvalidOption, is_metadata_service, unusable_address};
pub use pool::Pool;
pub use set::{ClusterId, ClusterSet, Clusters};
pub use shard::{
    Drain, Endpoints, Internal, MinReady, Policy, Port, Protocol, Refusal, ServiceOptions, Shard,
    ShardEntry, ShardParts, Ties, WhenNoneHealthy,
};
