//! From credentials to a client.

use std::hash::{BuildHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::fast::FixedState;
use http_body_util::BodyExt;
use hyper::{Request, Response};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt, DynBody};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tower::util::BoxService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::fault;
use super::observe::Observer;
use crate::cluster::{ApiSettings, ApiSource};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a credential plugin may run: some wait for a metadata service, none for a person.
const CREDENTIALS: Duration = Duration::from_secs(60);

/// What a stream may be silent beyond its watch's time-out before its connection is given up.
const SILENCE: Duration = Duration::from_secs(15);

/// The most that is read from a connection at once, octets. A buffer as long as that stays with every
/// connection, and each watch has one for itself; the first list would have it grow to 417,792. Two
/// records of TLS are read at a time, and heads of responses are far shorter.
const BUFFER: usize = 32 << 10;

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
    let builder = builder(config).map_err(ConnectError::Client)?;
    let observer = Observer::default();
    let client = builder.with_layer(&observer).build();
    let expires = (*client.valid_until()).map(SystemTime::from);
    Ok(Connection { client, observer, fingerprint, expires })
}

/// What the client sends requests by.
type Stack = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// kube's own stack keeps what buffers have grown to. It alone knows proxies, though, and when a
/// certificate ends that a plugin gave.
fn builder(config: Config) -> Result<ClientBuilder<Stack>, kube::Error> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return ClientBuilder::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector()?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client = legacy::Client::builder(TokioExecutor::new())
        .http1_max_buf_size(BUFFER)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client)
        .map_response(|response: Response<_>| {
            response.map(|body| Box::new(BodyExt::map_err(body, BoxError::from)) as Box<DynBody>)
        });
    Ok(ClientBuilder::new(service.boxed(), config.default_namespace))
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
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// What comes in one piece was in the buffer.
    #[tokio::test]
    async fn what_is_read_at_once_is_bounded() {
        const LENGTH: usize = 16 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
            stream.write_all(&vec![b' '; LENGTH]).unwrap();
        });
        let kubeconfig = format!(
            "{{current-context: c, clusters: [{{name: c, cluster: {{server: 'http://{server}'}}}}], \
             users: [{{name: c, user: {{token: t}}}}], \
             contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}"
        );
        let source = ApiSource::Inline(kubeconfig.into());
        let connection = connect(&source, &ApiSettings::default()).await.unwrap();
        let request = Request::get("/all").body(Body::empty()).unwrap();
        let mut body = connection.client.send(request).await.unwrap().into_body();
        let mut all = 0;
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap().len();
            // A buffer that is made anew may be as long as the last with what was added to it.
            assert!(piece <= 2 * BUFFER, "{piece} octets");
            all += piece;
        }
        assert_eq!(all, LENGTH);
        serving.join().unwrap();
    }

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
