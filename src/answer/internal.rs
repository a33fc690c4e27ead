//! Answers at cluster-internal names: addresses of the instance's own cluster,
//! or the way to those of others.

use std::net::IpAddr;

use super::service::rdata;
use super::{Answer, ZoneKind};
use crate::model::Internal;
use crate::wire::number::{rcode, rtype};
use crate::wire::{ExtendedError, Full, Owner, Section};
use crate::zone::{Family, INTERNAL_TTL, InternalZone, NamedPort, ServiceName};

impl<'s> Answer<'s, '_, '_> {
    /// A name outside of D: of the cluster-internal zone, or none of ours.
    pub(super) fn outside(&mut self, qtype: u16) -> Result<(), Full> {
        let internal = self.snapshot.zone.internal();
        let Some(above) = internal.and_then(|zone| zone.contains(self.query.name)) else {
            return self.fail(rcode::REFUSED, Some(ExtendedError::NotAuthoritative));
        };
        self.zone = ZoneKind::Internal;
        self.apex = Owner::in_question(self.query.name.start(above));
        self.soa = self.snapshot.internal_soa();
        self.most_negative_ttl = INTERNAL_TTL;
        self.in_zone(qtype, above)
    }

    /// The name of a service, or of one of its ports.
    pub(super) fn internal(
        &mut self,
        zone: &InternalZone,
        name: ServiceName<'s>,
    ) -> Result<(), Full> {
        match self.snapshot.local(name.service) {
            Ok(internal) => self.local(&name, zone, internal),
            Err(_) => self.lead_up(zone, name),
        }
    }

    /// What the instance's own cluster has.
    fn local(
        &mut self,
        name: &ServiceName<'s>,
        zone: &InternalZone,
        internal: &Internal,
    ) -> Result<(), Full> {
        let before = self.reply.count(Section::Answer);
        match (self.query.qtype, name.port) {
            (rtype::A, None) => self.internal_addresses(internal, Family::V4)?,
            (rtype::AAAA, None) => self.internal_addresses(internal, Family::V6)?,
            // RFC 8482 §4.1: one of the RRsets at the name is enough.
            (rtype::ANY, None) => {
                self.internal_addresses(internal, Family::V4)?;
                if self.reply.count(Section::Answer) == before {
                    self.internal_addresses(internal, Family::V6)?;
                }
            }
            (rtype::SRV | rtype::ANY, Some(port)) => {
                self.internal_srv(name, zone, internal, port)?
            }
            _ => {}
        }
        if self.reply.count(Section::Answer) > before {
            return Ok(());
        }
        self.negative(rcode::NOERROR, INTERNAL_TTL)
    }

    /// The addresses of a family, from the one whose turn it is.
    fn internal_addresses(&mut self, internal: &Internal, family: Family) -> Result<(), Full> {
        let all = internal.addresses();
        // IPv4 sorts before IPv6.
        let (v4, v6) = all.split_at(all.partition_point(IpAddr::is_ipv4));
        let addresses = if family == Family::V4 { v4 } else { v6 };
        let mut left = usize::from(self.snapshot.zone.settings().max_addresses.get());
        rdata(addresses, self.turn, &mut left, |address| {
            self.address(family, Owner::QUESTION, INTERNAL_TTL, *address).map(|()| true)
        })
    }

    /// The port of a Service with a ClusterIP. The target is the service's own cluster-internal
    /// name, which has that address as long as this answer holds. Of a headless Service nothing
    /// is told: its pods' ports need not be those of the Service.
    fn internal_srv(
        &mut self,
        name: &ServiceName<'s>,
        zone: &InternalZone,
        internal: &Internal,
        port: &NamedPort,
    ) -> Result<(), Full> {
        let Internal::ClusterIp(addresses) = internal else { return Ok(()) };
        let number = zone.home().and_then(|home| name.service.port(home, port));
        let Some(number) = number else { return Ok(()) };
        let [high, low] = number.to_be_bytes();
        let start = self.query.name.start(PORT_LABELS);
        // Uncompressed: "name compression is not to be used for this field" (RFC 2782).
        let parts = [&[0, 0, 0, 1, high, low][..], &self.query.name.wire()[start..]];
        let (section, ttl) = (Section::Answer, INTERNAL_TTL);
        self.reply.record(section, Owner::QUESTION, rtype::SRV, ttl, &parts)?;
        let target: (&[u8], Owner) = (&[], Owner::in_question(start));
        for address in addresses {
            let full = match address {
                IpAddr::V4(a) => self.reply.additional(target, rtype::A, ttl, &[a.octets()]),
                IpAddr::V6(a) => self.reply.additional(target, rtype::AAAA, ttl, &[a.octets()]),
            };
            if full.is_err() {
                // Left out without TC, as all additional records are.
                break;
            }
        }
        Ok(())
    }

    /// A CNAME to the instance's own availability zone, region, or the global name, and the whole
    /// chain from there on: who forwards this zone to us does not follow it.
    fn lead_up(&mut self, zone: &InternalZone, name: ServiceName<'s>) -> Result<(), Full> {
        let snapshot = self.snapshot;
        let prefix = self.query.name.span(0, if name.port.is_some() { PORT_LABELS } else { 0 });
        let Some(level) = zone.leads_to(&snapshot.zone, name.service, prefix.len()) else {
            return self.negative(rcode::NOERROR, INTERNAL_TTL);
        };
        let labels = [prefix, name.service.key.wire(), snapshot.zone.levels().tail(level)];
        let apex = snapshot.zone.apex().wire();
        let (target, apex) =
            self.reply.cname_in_full(Owner::QUESTION, INTERNAL_TTL, labels, apex)?;
        if matches!(self.query.qtype, rtype::CNAME | rtype::ANY) {
            return Ok(());
        }
        // From here on the answer is one of D.
        (self.head, self.apex, self.soa) = (target, apex, snapshot.soa());
        self.service(ServiceName { level, ..name })
    }
}

/// `_port._proto`.
const PORT_LABELS: usize = 2;

#[cfg(test)]
mod tests;
