//! The last known good state on disk, for a start while no source answers.
//!
//! *Owns*: the file and its format: a header (magic, version, length and CRC-32 of what follows)
//! and the views in postcard, with the clusters that a home cluster had registered, without their
//! credentials. *Guarantees*: the file is replaced whole or not at all; what is read
//! is what was written, valid by the types it is made of, and published by the present rules; a
//! shard, a cluster or a registration that holds what cannot be is left out and told of, and takes no other down; a
//! file that is none is set aside and told of, and never stops the start. *Does not*: decide when
//! to write, or what a view that was read is worth.
//!
//! Reports are not kept: they come back with the source.

pub(super) mod record;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{error, info, warn};

use super::narrow::Rules;
use super::{Settings, Source};
use crate::model::{Buckets, ClusterView, DomainName, Label, Member, Pool};
use record::{Cluster, Content, Entries, Federation, Registered, Skipped};

/// A view of a cluster with where it came from.
#[derive(Clone, Debug)]
pub struct KnownView {
    /// The cluster.
    pub name: Label,
    /// Its source, as [`super::Source::identity`] writes it.
    pub source: String,
    /// What was last served of it.
    pub view: Arc<ClusterView>,
}

/// All that is kept.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    /// What was served of each cluster.
    pub views: Vec<KnownView>,
    /// What was registered at run time, if that was known.
    pub registry: Option<Arc<Registry>>,
    /// Where its shards hold what they have in common; those of sources that are read later do so
    /// too. Not on disk.
    pub pool: Arc<Pool>,
}

/// The clusters that a home cluster had registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// Which home cluster, as [`super::home::Settings::identity`] writes it.
    pub home: String,
    /// Its clusters.
    pub clusters: Vec<KnownCluster>,
    /// There were others, which cannot be used: these are not all.
    pub partial: bool,
}

/// A cluster that was registered.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCluster {
    /// What was said of it.
    pub member: Member,
    /// Its source, as [`super::Source::identity`] writes it: credentials are not kept.
    pub source: String,
}

/// What a configuration has use for.
pub struct Wanted<'a> {
    /// The clusters of the file.
    pub clusters: &'a [Settings],
    /// The home cluster that registers others, as [`super::home::Settings::identity`] writes it.
    pub home: Option<String>,
    /// How such a cluster is read.
    pub registered: &'a dyn Fn(Label, Source) -> Settings,
    /// The apex of the federation's zone.
    pub apex: &'a DomainName,
}

/// Begins every file.
const MAGIC: [u8; 8] = *b"MERIDIAN";

/// Of the format of what follows the header. A file of another version is set aside.
const VERSION: u32 = 5;

/// Magic, version, length and checksum.
const HEADER: usize = 8 + 4 + 8 + 4;

/// Why the views could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file system refused; worth another try.
    #[error("{path}: {error}")]
    Io {
        /// What was being written.
        path: PathBuf,
        /// Why it was not.
        error: io::Error,
    },
    /// The views cannot be encoded, by a fault of ours.
    #[error("encoding failed: {0}")]
    Encode(#[from] postcard::Error),
}

/// Why a file holds no views.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it was not written by meridian")]
    Foreign,
    #[error("it has version {0} of the format, this meridian reads {VERSION}")]
    Version(u32),
    #[error("it holds {found} octets in the place of {told}")]
    Length { told: u64, found: u64 },
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its content cannot be decoded: {0}")]
    Decode(#[from] postcard::Error),
}

/// Puts `state` in the place of what the file at `path` holds. Blocks on the file system.
///
/// # Errors
/// [`SaveError`]; the file is as it was.
pub fn save(path: &Path, state: &LastGood) -> Result<(), SaveError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| SaveError::Io { path, error }
    };
    // In the same directory, as only within a file system can a name be replaced at one stroke.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let staging = path.with_file_name(name);
    let mut sink = Sink::create(&staging).map_err(io(&staging))?;
    if let Err(error) = postcard::to_io(&Federation(state), &mut sink) {
        return Err(match sink.failure.take() {
            Some(error) => io(&staging)(error),
            None => error.into(),
        });
    }
    sink.finish().map_err(io(&staging))?;
    fs::rename(&staging, path).map_err(io(path))?;
    // The new name is on disk only when its directory is.
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(directory))
}

/// A file that is being written, whose header tells of what follows it.
struct Sink {
    file: BufWriter<File>,
    len: u64,
    checksum: crc32fast::Hasher,
    /// Why the last write failed, which postcard does not tell.
    failure: Option<io::Error>,
}

impl Sink {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&[0; HEADER])?;
        Ok(Self { file, len: 0, checksum: crc32fast::Hasher::new(), failure: None })
    }

    /// Puts the header in its place, and all on disk.
    fn finish(mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(&header(self.len, self.checksum.finalize()))?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

impl io::Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self.file.write(octets) {
            Ok(len) => {
                self.len += len as u64;
                self.checksum.update(&octets[..len]);
                Ok(len)
            }
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn header(len: u64, checksum: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&len.to_le_bytes());
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// What the file at `path` holds of what is wanted: the clusters that the same home cluster had
/// registered, and views of clusters that have the same name and source as when it was written, by
/// the rules as they are now. Empty where there is no file, or none that can be used, which is then
/// set aside and logged. Blocks on the file system.
#[must_use]
pub fn load(path: &Path, wanted: &Wanted<'_>) -> LastGood {
    match read(path, wanted) {
        Ok(state) => {
            let services: usize = state.views.iter().map(|known| known.view.shards.len()).sum();
            let clusters = state.views.len();
            info!(file = %path.display(), clusters, services, "last known good state read");
            state
        }
        Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            info!(file = %path.display(), "there is no last known good state yet");
            LastGood::default()
        }
        Err(fault) => {
            set_aside(path, &fault);
            LastGood::default()
        }
    }
}

fn read(path: &Path, wanted: &Wanted<'_>) -> Result<LastGood, Unusable> {
    let octets = content(path)?;
    let mut content = Content(&octets);
    let told: Option<Registered<'_>> = content.take()?;
    let registry = wanted.home.as_ref().zip(told).and_then(|(home, told)| told.of_home(home));
    let registered: Vec<Settings> = registry
        .iter()
        .flat_map(|registry| &registry.clusters)
        .map(|KnownCluster { member, source }| {
            (wanted.registered)(member.name.clone(), Source::Awaited(source.as_str().into()))
        })
        .collect();
    let settings: Vec<(&Settings, String)> = (wanted.clusters.iter().chain(&registered))
        .map(|settings| (settings, settings.source.identity()))
        .collect();
    let pool = Arc::<Pool>::default();
    let mut views: Vec<Option<KnownView>> = vec![None; settings.len()];
    for _ in 0..content.take::<usize>()? {
        let cluster: Cluster<'_> = content.take()?;
        let at = settings.iter().position(|(s, source)| cluster.is(&s.name, source));
        match at.filter(|at| views[*at].is_none()) {
            None => content.shards(|_| ())?,
            Some(at) => {
                let (settings, source) = &settings[at];
                let rules = rules(settings, wanted, &pool);
                let view = known(&settings.name, &cluster, &mut content, &rules)?;
                let (name, source) = (settings.name.clone(), source.clone());
                views[at] = view.map(|view| KnownView { name, source, view });
            }
        }
    }
    let views = views.into_iter().flatten().collect();
    Ok(LastGood { views, registry: registry.map(Arc::new), pool })
}

/// What a cluster with these settings may have published.
fn rules(settings: &Settings, wanted: &Wanted<'_>, pool: &Arc<Pool>) -> Rules {
    Rules::new(settings.export, settings.allow_nets.clone(), wanted.apex.clone())
        .limited_to(settings.namespaces.clone(), settings.addresses)
        .pooled(pool.clone())
}

/// What can be used of the view of one cluster; what cannot takes no other down.
fn known<'a>(
    name: &Label,
    cluster: &Cluster<'a>,
    content: &mut Content<'a>,
    rules: &Rules,
) -> Result<Option<Arc<ClusterView>>, postcard::Error> {
    let read = cluster.view().and_then(|view| Ok((view, cluster.entries(rules)?)));
    let (view, mut entries) = match read {
        Ok(read) => read,
        Err(fault) => {
            warn!(
                cluster = %name, %fault,
                "what was last known of a cluster cannot be used; its source is waited for"
            );
            content.shards(|_| ())?;
            return Ok(None);
        }
    };
    content.shards(|shard| entries.push(&shard))?;
    let Entries { entries, skipped, .. } = entries;
    let partial = skipped.is_some();
    if let Some(Skipped { count, first, fault }) = skipped {
        warn!(
            cluster = %name, count, first, %fault,
            "some of the services last known of a cluster cannot be used; its source is waited for"
        );
    }
    // What is missing is not said to be absent.
    Ok(Some(Arc::new(ClusterView { shards: Buckets::from_items(entries), partial, ..view })))
}

/// What follows the header of a file that is whole.
fn content(path: &Path) -> Result<Vec<u8>, Unusable> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Ok(()) if header[..8] == MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => return Err(Unusable::Foreign),
    }
    let mut fields = header[8..].chunks_exact(4).map(|field| {
        // Chunks of four are arrays of four.
        u32::from_le_bytes(field.try_into().unwrap_or_default())
    });
    let mut field = || fields.next().unwrap_or_default();
    let (version, low, high, checksum) = (field(), field(), field(), field());
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let (told, found) = (u64::from(high) << 32 | u64::from(low), size - HEADER as u64);
    if told != found {
        return Err(Unusable::Length { told, found });
    }
    // As long as was found, but for what no machine could hold.
    let mut content = Vec::with_capacity(usize::try_from(found).unwrap_or_default());
    file.read_to_end(&mut content)?;
    if crc32fast::hash(&content) != checksum {
        return Err(Unusable::Checksum);
    }
    Ok(content)
}

/// Keeps what a person may want to look at, out of the way of what is written next.
fn set_aside(path: &Path, fault: &Unusable) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{now}"));
    let aside = path.with_file_name(name);
    let file = path.display();
    match fs::rename(path, &aside) {
        Ok(()) => warn!(
            %file, kept_as = %aside.display(),
            "the last known good state cannot be used: {fault}; it is set aside, and sources are \
             waited for"
        ),
        Err(error) => error!(
            %file, %error,
            "the last known good state cannot be used: {fault}; nor can it be set aside; sources \
             are waited for"
        ),
    }
}
