//! From credentials to a client.

use std::hash::{BuildHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::fast::FixedState;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::fault;
use super::observe::Observer;
use crate::cluster::{ApiSettings, ApiSource};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a credential plugin may run: some wait for a metadata service, none for a person.
const CREDENTIALS: Duration = Duration::from_secs(60);

/// What a stream may be silent beyond its watch's time-out before its connection is given up.
const SILENCE: Duration = Duration::from_secs(15);

/// A client and what it was made of.
#[derive(Clone)]
pub(in crate::cluster) struct Connection {
    /// The client.
    pub(in crate::cluster) client: Client,
    /// What is seen of its requests.
    pub(in crate::cluster) observer: Observer,
    /// Of the files that the credentials were read from.
    pub(super) fingerprint: u64,
    /// When a client certificate that a plugin gave ends.
    expires: Option<SystemTime>,
}

impl Connection {
    /// Whether the client certificate has ended.
    pub(super) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| SystemTime::now() >= expires)
    }
}

/// Why there is no client. All may pass by themselves or by an operator's hand.
#[derive(Debug, thiserror::Error)]
pub(in crate::cluster) enum ConnectError {
    /// The kubeconfig cannot be read or lacks something.
    #[error("{place}: {}", fault::chain(.error))]
    Kubeconfig {
        /// The file, or what stands for it.
        place: String,
        /// What is wrong.
        error: KubeconfigError,
    },
    /// No service account.
    #[error("inCluster: {}", fault::chain(.0))]
    InCluster(InClusterError),
    /// A registered kubeconfig asks for what only our own files may.
    #[error("{0}")]
    Foreign(#[from] Foreign),
    /// Certificates or keys that cannot be used, or a plugin that failed.
    #[error("credentials: {}", fault::describe(.0))]
    Client(kube::Error),
    /// A credential plugin did not end.
    #[error("the credentials were not there within {} s", CREDENTIALS.as_secs())]
    Slow,
    /// Making the client panicked, which the runtime has logged.
    #[error("the client could not be made")]
    Panicked,
}

/// A kubeconfig of a Secret would run a program here or read a file of ours, and could so send
/// our own credentials to a server of its choice.
#[derive(Debug, thiserror::Error)]
#[error("{key} is not accepted in a registered kubeconfig: write {instead} in it")]
pub(in crate::cluster) struct Foreign {
    key: &'static str,
    instead: &'static str,
}

/// Checks that `config` stands for itself.
///
/// # Errors
/// [`Foreign`].
pub(in crate::cluster) fn refuse_foreign(config: &Kubeconfig) -> Result<(), Foreign> {
    let refuse = |is: bool, key, instead| if is { Err(Foreign { key, instead }) } else { Ok(()) };
    for cluster in config.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        let file = cluster.certificate_authority.is_some();
        refuse(file, "certificate-authority", "certificate-authority-data")?;
    }
    for user in config.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        refuse(user.exec.is_some(), "exec", "token")?;
        refuse(user.auth_provider.is_some(), "auth-provider", "token")?;
        refuse(user.token_file.is_some(), "tokenFile", "token")?;
        let file = user.client_certificate.is_some();
        refuse(file, "client-certificate", "client-certificate-data")?;
        refuse(user.client_key.is_some(), "client-key", "client-key-data")?;
    }
    Ok(())
}

/// The URL of the API server that the current context of a kubeconfig leads to.
pub(in crate::cluster) fn server(kubeconfig: &str) -> Option<String> {
    let config = Kubeconfig::from_yaml(kubeconfig).ok()?;
    let context = config.current_context.as_ref()?;
    let context = config.contexts.iter().find(|named| named.name == *context)?;
    let cluster = &context.context.as_ref()?.cluster;
    config.clusters.iter().find(|named| named.name == *cluster)?.cluster.as_ref()?.server.clone()
}

/// Reads the credentials and makes a client, off the threads that serve: files and plugins block.
///
/// # Errors
/// [`ConnectError`].
pub(in crate::cluster) async fn connect(
    source: &ApiSource,
    settings: &ApiSettings,
) -> Result<Connection, ConnectError> {
    let (source, settings) = (source.clone(), settings.clone());
    let made = spawn_blocking(move || make(&source, &settings));
    match timeout(CREDENTIALS, made).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => Err(ConnectError::Panicked),
        Err(_) => Err(ConnectError::Slow),
    }
}

fn make(source: &ApiSource, settings: &ApiSettings) -> Result<Connection, ConnectError> {
    let (mut config, fingerprint) = load(source)?;
    config.connect_timeout = Some(CONNECT);
    // Beyond the silence that a watch may have: a list or a watch that never begins ends too.
    config.read_timeout = Some(settings.watch_timeout + SILENCE);
    config.reset_reader_on_write = true;
    // We try again ourselves, so that each failure is seen.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(ConnectError::Client)?;
    let observer = Observer::default();
    let client = builder.with_layer(&observer).build();
    let expires = (*client.valid_until()).map(SystemTime::from);
    Ok(Connection { client, observer, fingerprint, expires })
}

fn load(source: &ApiSource) -> Result<(Config, u64), ConnectError> {
    let (kubeconfig, place, context) = match source {
        ApiSource::InCluster => {
            // kube reads the token and the root certificate anew by itself.
            return Config::incluster().map(|config| (config, 0)).map_err(ConnectError::InCluster);
        }
        ApiSource::Kubeconfig { path, context } => {
            (Kubeconfig::read_from(path), path.display().to_string(), context.clone())
        }
        ApiSource::Inline(text) => {
            (Kubeconfig::from_yaml(text), "the registered kubeconfig".to_owned(), None)
        }
    };
    let fault = |error| ConnectError::Kubeconfig { place: place.clone(), error };
    let kubeconfig = kubeconfig.map_err(fault)?;
    let fingerprint = match source {
        ApiSource::Kubeconfig { path, .. } => hash(path, &kubeconfig),
        ApiSource::Inline(_) => refuse_foreign(&kubeconfig).map(|()| 0)?,
        ApiSource::InCluster => 0,
    };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    // Asynchronous by its signature only.
    let config = Handle::current()
        .block_on(Config::from_custom_kubeconfig(kubeconfig, &options))
        .map_err(fault)?;
    Ok((config, fingerprint))
}

/// A hash of the files that the credentials stand in; of those that cannot be read, of that.
pub(super) async fn fingerprint(source: &ApiSource) -> u64 {
    let ApiSource::Kubeconfig { path, .. } = source else { return 0 };
    let path: Arc<Path> = path.as_path().into();
    let hash = spawn_blocking(move || match Kubeconfig::read_from(&*path) {
        Ok(kubeconfig) => hash(&path, &kubeconfig),
        Err(_) => hash(&path, &Kubeconfig::default()),
    });
    hash.await.unwrap_or_default()
}

/// Tokens in files are not among them: kube reads those anew by itself.
fn hash(path: &Path, kubeconfig: &Kubeconfig) -> u64 {
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let named = clusters
        .filter_map(|cluster| cluster.certificate_authority.as_ref())
        .chain(users.flat_map(|user| user.client_certificate.iter().chain(&user.client_key)));
    let mut hasher = FixedState::default().build_hasher();
    for file in [path.to_owned()].into_iter().chain(named.map(PathBuf::from)) {
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_kubeconfig_stands_for_itself() {
        let user = |keys: &str| {
            let text = format!("users: [{{name: u, user: {{{keys}}}}}]");
            refuse_foreign(&Kubeconfig::from_yaml(&text).unwrap())
        };
        assert!(user("token: t").is_ok());
        assert!(user("client-certificate-data: x, client-key-data: y").is_ok());
        let refused = [
            "exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}",
            "tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token",
            "client-certificate: /etc/passwd",
            "client-key: /etc/passwd",
        ];
        for keys in refused {
            assert!(user(keys).is_err(), "{keys}");
        }
    }
}
