//! One look-up, through hickory-resolver.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup as Answer;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::ResolverSettings;
use super::schedule::{FamilyAnswer, LookupAnswer};
use crate::model::DomainName;

/// Looks host names up.
pub(super) struct Lookup {
    settings: ResolverSettings,
    apex: DomainName,
    /// Made when it is first needed: most clusters have no host names.
    resolver: Option<TokioResolver>,
}

impl Lookup {
    /// Looks up by `settings`, and refuses what leads into `apex`.
    pub(super) fn new(settings: ResolverSettings, apex: DomainName) -> Self {
        Self { settings, apex, resolver: None }
    }

    /// Begins to look up both families of `hostname`. Each family is asked for by itself, so that
    /// it can be told which one failed.
    pub(super) fn start(
        &mut self,
        hostname: &Arc<str>,
    ) -> impl Future<Output = LookupAnswer> + Send + 'static {
        let resolver = self.resolver();
        let apex = self.apex.clone();
        // With the final dot, no search domain is tried.
        let hostname = format!("{hostname}.");
        async move {
            let resolver = match resolver {
                Ok(resolver) => resolver,
                Err(reason) => {
                    let failed = FamilyAnswer::Failed(reason);
                    return LookupAnswer { v4: failed.clone(), v6: failed };
                }
            };
            let (v4, v6) = tokio::join!(
                resolver.lookup(hostname.as_str(), RecordType::A),
                resolver.lookup(hostname.as_str(), RecordType::AAAA),
            );
            LookupAnswer { v4: judge(v4, &apex), v6: judge(v6, &apex) }
        }
    }

    fn resolver(&mut self) -> Result<TokioResolver, Box<str>> {
        if let Some(resolver) = &self.resolver {
            return Ok(resolver.clone());
        }
        let made = build(&self.settings)
            .map_err(|error| format!("no resolver can be set up ({error}); configure upstreams"))?;
        Ok(self.resolver.insert(made).clone())
    }
}

fn build(settings: &ResolverSettings) -> Result<TokioResolver, NetError> {
    if settings.upstreams.is_empty() {
        let mut builder = TokioResolver::builder_tokio()?;
        set_options(builder.options_mut());
        return builder.build();
    }
    let servers = settings.upstreams.iter().map(|upstream| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = upstream.port();
        }
        NameServerConfig::new(upstream.ip(), true, connections)
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut builder: ResolverBuilder<TokioRuntimeProvider> =
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    set_options(options);
    // Whoever names the servers to ask does not mean a file of this host.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn set_options(options: &mut ResolverOpts) {
    // The schedule decides when to ask again.
    options.cache_size = 0;
    // The names on the way tell whether it leads into our own zone.
    options.preserve_intermediates = true;
}

/// What an answer says of one family.
fn judge(answer: Result<Answer, NetError>, apex: &DomainName) -> FamilyAnswer {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
            return FamilyAnswer::None;
        }
        // The text is the same for the same fault, so that a lasting one is reported once.
        Err(error) if error.is_nx_domain() => {
            return FamilyAnswer::Failed("the name does not exist (NXDOMAIN)".into());
        }
        Err(error) => return FamilyAnswer::Failed(error.to_string().into()),
    };
    let records = answer.answers();
    let ours =
        |name: &Name| DomainName::parse(&name.to_ascii()).is_ok_and(|name| name.is_within(apex));
    let loops = records.iter().any(|record| match &record.data {
        RData::CNAME(target) => ours(target),
        _ => ours(&record.name),
    });
    if loops {
        return FamilyAnswer::Failed(
            "it is an alias of a name in the federation's own zone".into(),
        );
    }
    let addresses: Vec<IpAddr> =
        records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let ttl = records.iter().map(|record| record.ttl).min();
    match ttl.filter(|_| !addresses.is_empty()) {
        Some(ttl) => FamilyAnswer::Addresses(addresses, ttl),
        None => FamilyAnswer::None,
    }
}
