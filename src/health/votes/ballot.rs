//! What one instance sees failing, in memory and as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{InvalidLabel, Label, ServiceKey, one_line};

/// What one instance sees failing of all clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sights {
    /// Clusters of whose checked shards it has seen enough that what it does not list is well.
    pub judged: BTreeSet<Label>,
    /// Clusters of which every checked shard fails.
    pub clusters: BTreeMap<Label, Sight>,
    /// Single shards that fail, by cluster; those of `clusters` need not be listed.
    pub shards: BTreeMap<Label, BTreeMap<ServiceKey, Sight>>,
}

/// Something that is seen failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Unix time, seconds, of the first failure.
    pub since: u64,
    /// How it fails, for people; empty where that is not told.
    pub why: Arc<str>,
}

/// What is seen of a shard or cluster by one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeing<'s> {
    /// Nothing: it is not checked from there, or not for long enough.
    Nothing,
    /// That it is well.
    Well,
    /// That it fails.
    Failing(&'s Sight),
}

impl Sights {
    /// What is seen of a cluster as a whole.
    #[must_use]
    pub fn cluster(&self, cluster: &Label) -> Seeing<'_> {
        match self.clusters.get(cluster) {
            Some(sight) => Seeing::Failing(sight),
            None if self.judged.contains(cluster) => Seeing::Well,
            None => Seeing::Nothing,
        }
    }

    /// What is seen of a shard: one in a cluster that fails as a whole fails too.
    #[must_use]
    pub fn shard(&self, cluster: &Label, key: &ServiceKey) -> Seeing<'_> {
        match self.shards.get(cluster).and_then(|shards| shards.get(key)) {
            Some(sight) => Seeing::Failing(sight),
            None => self.cluster(cluster),
        }
    }

    /// How many single shards are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.values().map(BTreeMap::len).sum()
    }

    /// Whether nothing is seen failing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.len() == 0
    }
}

/// The sights of one instance as it publishes them, for all others to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The cluster for which it votes.
    pub voter: Label,
    /// The instance, unique among those that vote for that cluster.
    pub instance: Box<str>,
    /// Of this run of it: another one counts its renewals from zero.
    pub run: u64,
    /// Grows with every heartbeat and every change.
    pub renewal: u64,
    /// What it sees.
    pub sights: Arc<Sights>,
}

/// A renewal of a ballot that is otherwise as it was, so that a long one need not be carried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// As in the ballot: a renewal of another run is none of it.
    pub run: u64,
    /// As in the ballot.
    pub renewal: u64,
}

impl Renewal {
    /// The most octets that its text has: two numbers of 20 digits, and what is between them.
    pub const LONGEST: u64 = 41;

    /// The ballot with this renewal, unless it has a later one.
    #[must_use]
    pub fn of(&self, ballot: &Arc<Ballot>) -> Arc<Ballot> {
        match self.run == ballot.run && self.renewal > ballot.renewal {
            true => Arc::new(Ballot { renewal: self.renewal, ..(**ballot).clone() }),
            false => ballot.clone(),
        }
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.renewal)
    }
}

impl FromStr for Renewal {
    type Err = InvalidRenewal;

    fn from_str(text: &str) -> Result<Self, InvalidRenewal> {
        let (run, renewal) = text.split_once('/').ok_or(InvalidRenewal)?;
        let number = |text: &str| text.parse().map_err(|_| InvalidRenewal);
        Ok(Self { run: number(run)?, renewal: number(renewal)? })
    }
}

/// A text that is no [`Renewal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no renewal of a ballot, RUN/RENEWAL")]
pub struct InvalidRenewal;

/// The longest text of a ballot, octets: it fits an object of the Kubernetes API (1 MiB for a
/// ConfigMap) with room for what the object has beside it.
pub const MAX_TEXT: usize = 768 * 1024;

/// The longest reason that is told, octets: one is for people, and there may be thousands.
const MAX_WHY: usize = 160;

/// The version of the text.
const VERSION: u32 = 1;

/// A ballot as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// JSON of at most [`MAX_TEXT`] octets.
    pub text: String,
    /// What fails and did not fit; it is not voted for.
    pub omitted: usize,
}

/// The text, with names not looked at.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text<'t> {
    version: u32,
    voter: String,
    instance: Box<str>,
    run: u64,
    renewal: u64,
    judged: Vec<String>,
    clusters: BTreeMap<String, TextSight<'t>>,
    shards: BTreeMap<String, BTreeMap<String, TextSight<'t>>>,
    /// Shards that fail and are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    omitted: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct TextSight<'t> {
    since: u64,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    why: std::borrow::Cow<'t, str>,
}

/// Only the version, which must be known before the rest means anything.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Why a text is no ballot.
#[derive(Debug, thiserror::Error)]
pub enum BallotError {
    /// No JSON, or not of this form.
    #[error("it is no ballot: {0}")]
    Form(#[from] serde_json::Error),
    /// Written by another version of meridian.
    #[error("it has version {0} of the form, this meridian reads {VERSION}")]
    Version(u32),
    /// A cluster with a name that none can have.
    #[error("it names what is no cluster: {0}")]
    Cluster(InvalidLabel),
    /// An instance with a name that none can have.
    #[error("it names what is no instance: {0}")]
    Instance(InvalidLabel),
    /// A shard with a name that no service can have.
    #[error("it names what is no service: '{0}' is not NAMESPACE/NAME")]
    Service(String),
}

impl Ballot {
    /// The ballot as text that fits. Where it would not, reasons are left out; where that is not
    /// enough, shards at the end of the order of clusters and keys, which is the same for every
    /// instance, so that they still agree on the others.
    ///
    /// # Errors
    /// None that is known: everything that a ballot holds can be written as JSON.
    pub fn encode(&self) -> Result<Encoded, serde_json::Error> {
        let whole = serde_json::to_string(&self.text(Why::Told, usize::MAX))?;
        if whole.len() <= MAX_TEXT {
            return Ok(Encoded { text: whole, omitted: 0 });
        }
        let mut room = usize::MAX;
        loop {
            let text = self.text(Why::LeftOut, room);
            let written = serde_json::to_string(&text)?;
            if written.len() <= MAX_TEXT {
                return Ok(Encoded { text: written, omitted: text.omitted });
            }
            let listed = self.sights.len() - text.omitted;
            if listed == 0 {
                return self.abstention();
            }
            // Shards are about alike; what is still too long gets shorter with each turn.
            room = (listed as u128 * MAX_TEXT as u128 / written.len() as u128) as usize * 99 / 100;
        }
    }

    /// What is left where not even the clusters fit, which takes thousands of them.
    fn abstention(&self) -> Result<Encoded, serde_json::Error> {
        let nothing = Self { sights: Arc::default(), ..self.clone() };
        let omitted = self.sights.clusters.len() + self.sights.len();
        let text = Text { omitted, ..nothing.text(Why::LeftOut, 0) };
        Ok(Encoded { text: serde_json::to_string(&text)?, omitted })
    }

    /// Reads what [`Self::encode`] wrote; keys that are not known are passed over.
    ///
    /// # Errors
    /// [`BallotError`]: none of it can be used.
    pub fn decode(text: &str) -> Result<Self, BallotError> {
        let Versioned { version } = serde_json::from_str(text)?;
        if version != VERSION {
            return Err(BallotError::Version(version));
        }
        let text: Text<'_> = serde_json::from_str(text)?;
        let label = |text: &str| Label::parse(text).map_err(BallotError::Cluster);
        let judged = text.judged.iter().map(|name| label(name)).collect::<Result<_, _>>()?;
        let clusters = text.clusters.iter().map(|(name, sight)| Ok((label(name)?, sight.into())));
        let clusters = clusters.collect::<Result<_, BallotError>>()?;
        let mut shards = BTreeMap::new();
        for (name, listed) in &text.shards {
            let listed = listed.iter().map(|(name, sight)| Ok((service(name)?, sight.into())));
            shards.insert(label(name)?, listed.collect::<Result<_, BallotError>>()?);
        }
        Ok(Self {
            voter: label(&text.voter)?,
            instance: Label::parse(&text.instance).map_err(BallotError::Instance)?.as_str().into(),
            run: text.run,
            renewal: text.renewal,
            sights: Arc::new(Sights { judged, clusters, shards }),
        })
    }

    /// The text with at most `room` shards.
    fn text(&self, why: Why, room: usize) -> Text<'_> {
        let mut left = room;
        let mut judged: Vec<_> = self.sights.judged.iter().map(ToString::to_string).collect();
        let mut shards = BTreeMap::new();
        for (cluster, all) in &self.sights.shards {
            let listed = all.iter().take(left);
            let listed: BTreeMap<_, _> =
                listed.map(|(key, sight)| (key.to_string(), sight.text(why))).collect();
            left -= listed.len();
            if listed.len() < all.len() {
                // What is not listed must not be taken for well.
                judged.retain(|name| name != cluster.as_str());
            }
            if !listed.is_empty() {
                shards.insert(cluster.to_string(), listed);
            }
        }
        let clusters = self.sights.clusters.iter();
        Text {
            version: VERSION,
            voter: self.voter.to_string(),
            instance: self.instance.clone(),
            run: self.run,
            renewal: self.renewal,
            judged,
            // Of these there are few, and nobody else tells their reason.
            clusters: clusters.map(|(name, s)| (name.to_string(), s.text(Why::Told))).collect(),
            omitted: self.sights.len().saturating_sub(room),
            shards,
        }
    }
}

/// Whether reasons are told.
#[derive(Clone, Copy)]
enum Why {
    Told,
    LeftOut,
}

impl Sight {
    fn text(&self, why: Why) -> TextSight<'_> {
        let told = match why {
            Why::Told => shortened(&self.why),
            Why::LeftOut => "",
        };
        TextSight { since: self.since, why: told.into() }
    }
}

impl From<&TextSight<'_>> for Sight {
    fn from(text: &TextSight<'_>) -> Self {
        // It stands in logs and pages of others.
        Self { since: text.since, why: shortened(&one_line(&text.why, MAX_WHY)).into() }
    }
}

/// A reason of at most [`MAX_WHY`] octets.
fn shortened(why: &str) -> &str {
    let ends = why.char_indices().map(|(start, c)| start + c.len_utf8());
    &why[..ends.take_while(|end| *end <= MAX_WHY).last().unwrap_or(0)]
}

fn service(text: &str) -> Result<ServiceKey, BallotError> {
    let parsed = text.split_once('/').and_then(|(namespace, name)| {
        Some(ServiceKey::new(&Label::parse(namespace).ok()?, &Label::parse(name).ok()?))
    });
    parsed.ok_or_else(|| BallotError::Service(text.to_owned()))
}

/// Who wrote it, for people: `eu/meridian-0`.
impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.voter, self.instance)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(text: &str) -> Label {
        Label::parse(text).expect("a label")
    }

    fn sight(why: &str) -> Sight {
        Sight { since: 1_700_000_000, why: why.into() }
    }

    fn ballot(sights: Sights) -> Ballot {
        let instance = "meridian-0".into();
        Ballot { voter: label("eu"), instance, run: u64::MAX, renewal: 7, sights: Arc::new(sights) }
    }

    /// `count` failing shards of one cluster, which is judged.
    fn many(count: usize, why: &str) -> Ballot {
        let key = |i| ServiceKey::new(&label("namespace"), &label(&format!("service-{i}")));
        let shards = (0..count).map(|i| (key(i), sight(why))).collect();
        ballot(Sights {
            judged: [label("us")].into(),
            shards: [(label("us"), shards)].into(),
            ..Sights::default()
        })
    }

    #[test]
    fn the_form_is_stable() {
        let key = ServiceKey::new(&label("shop"), &label("web"));
        let sights = Sights {
            judged: [label("us"), label("asia")].into(),
            clusters: [(label("dark"), sight("no answer"))].into(),
            shards: [(label("us"), [(key, sight("refused"))].into())].into(),
        };
        let text = r#"{"version":1,"voter":"eu","instance":"meridian-0","run":18446744073709551615,"renewal":7,"judged":["asia","us"],"clusters":{"dark":{"since":1700000000,"why":"no answer"}},"shards":{"us":{"shop/web":{"since":1700000000,"why":"refused"}}}}"#;
        let ballot = ballot(sights);
        let encoded = ballot.encode().expect("plain values");
        assert_eq!(encoded, Encoded { text: text.into(), omitted: 0 });
        assert_eq!(Ballot::decode(text).expect("a ballot"), ballot);
    }

    #[test]
    fn what_is_no_ballot_is_refused_with_a_reason() {
        let good = many(1, "").encode().expect("plain values").text;
        let told = |text: &str| Ballot::decode(text).expect_err("no ballot").to_string();
        assert!(told("{").starts_with("it is no ballot: EOF"));
        assert!(told(r#"{"version":2}"#).contains("version 2"));
        assert!(told(&good.replace("\"eu\"", "\"e_u\"")).contains("'e_u' is no DNS label"));
        assert!(
            told(&good.replace("namespace/", "")).contains("'service-0' is not NAMESPACE/NAME")
        );
        let instance = good.replace("meridian-0", "me\\nridian");
        assert!(told(&instance).contains("what is no instance"), "it stands in logs");
        let lines = good.replace("1700000000}", r#"1700000000,"why":"a\nb"}"#);
        let read = Ballot::decode(&lines).expect("a ballot");
        let Seeing::Failing(seen) = read.sights.shard(&label("us"), &key(0)) else {
            panic!("it is listed")
        };
        assert_eq!(&*seen.why, "a b", "and so do reasons");
        let more = good.replacen('{', r#"{"later":[],"#, 1);
        assert!(Ballot::decode(&more).is_ok(), "what a later one adds is passed over");
    }

    /// "one small object": beyond its size reasons go first, then shards at the end.
    #[test]
    fn what_does_not_fit_is_left_out_in_order() {
        let why = "w".repeat(500);
        let long = many(10, &why).encode().expect("plain values");
        let read = Ballot::decode(&long.text).expect("a ballot");
        let Seeing::Failing(seen) = read.sights.shard(&label("us"), &key(3)) else {
            panic!("it is listed")
        };
        assert_eq!(seen.why.len(), MAX_WHY);

        let bare = many(6_000, &why).encode().expect("plain values");
        assert_eq!(bare.omitted, 0);
        let read = Ballot::decode(&bare.text).expect("a ballot");
        assert_eq!(read.sights.len(), 6_000);
        assert!(!bare.text.contains("www"));

        let cut = many(60_000, "").encode().expect("plain values");
        assert!(cut.text.len() <= MAX_TEXT && cut.text.len() > MAX_TEXT * 9 / 10);
        let read = Ballot::decode(&cut.text).expect("a ballot");
        assert_eq!(read.sights.len() + cut.omitted, 60_000);
        let all = many(60_000, "");
        let first: Vec<_> =
            all.sights.shards[&label("us")].keys().take(read.sights.len()).collect();
        assert_eq!(read.sights.shards[&label("us")].keys().collect::<Vec<_>>(), first);
        assert!(read.sights.judged.is_empty(), "what is not listed is not well");
    }

    fn key(index: usize) -> ServiceKey {
        ServiceKey::new(&label("namespace"), &label(&format!("service-{index}")))
    }

    fn name() -> impl Strategy<Value = Label> {
        "[a-z]([a-z0-9-]{0,6}[a-z0-9])?".prop_map(|text| label(&text))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            judged in prop::collection::btree_set(name(), 0..4),
            clusters in prop::collection::btree_map(name(), "[ -~ä]{0,20}", 0..4),
            shards in prop::collection::btree_map(
                name(), prop::collection::btree_map((name(), name()), "[ -~ä]{0,20}", 1..4), 0..4,
            ),
        ) {
            let sights = Sights {
                judged,
                clusters: clusters.into_iter().map(|(name, why)| (name, sight(&why))).collect(),
                shards: shards.into_iter().map(|(name, listed)| {
                    let listed = listed.into_iter();
                    let keyed = listed.map(|((a, b), why)| (ServiceKey::new(&a, &b), sight(&why)));
                    (name, keyed.collect())
                }).collect(),
            };
            let ballot = ballot(sights);
            let text = ballot.encode().expect("plain values").text;
            prop_assert_eq!(Ballot::decode(&text).expect("a ballot"), ballot);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Ballot::decode(&text);
        }
    }
}
