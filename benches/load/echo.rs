//! A bare server that receives and sends batches and does nothing else: what the kernel alone costs.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::{Domain, Socket, Type};

/// Datagrams a batch, as Meridian has it.
const BATCH: usize = 64;

/// Room for a datagram, and a cache line that keeps their fronts apart.
const ROOM: usize = 4096 + 64;

/// Buffers of the socket, as Meridian has them.
const BUFFER: usize = 4 << 20;

/// Sends every datagram back with the bit that makes it a reply, and zeros up to `octets`, for ever.
pub(crate) fn echo(address: SocketAddrV4, octets: usize) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&SocketAddr::from(address).into())?;
    let descriptor = socket.as_raw_fd();
    let mut buffers = vec![[0u8; ROOM]; BATCH];
    let mut incoming: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(BATCH, None);
    let mut outgoing: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(BATCH, None);
    let (mut lengths, mut peers) = ([0; BATCH], [None; BATCH]);
    loop {
        let mut slices: Vec<_> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let mut count = 0;
        match recvmmsg(descriptor, &mut incoming, slices.iter_mut(), flags, None) {
            Ok(received) => {
                for message in received {
                    (lengths[count], peers[count]) = (message.bytes, message.address);
                    count += 1;
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (buffer, len) in buffers.iter_mut().zip(&mut lengths).take(count) {
            buffer[2] |= 0x80;
            *len = (*len).max(octets);
        }
        let slices: [_; BATCH] = array::from_fn(|i| [IoSlice::new(&buffers[i][..lengths[i]])]);
        let mut done = 0;
        while done < count {
            let (slices, peers) = (&slices[done..count], &peers[done..count]);
            let flags = MsgFlags::empty();
            match sendmmsg(descriptor, &mut outgoing, slices, peers, [], flags) {
                Ok(sent) => done += sent.count(),
                Err(Errno::EINTR) => {}
                Err(_) => done += 1,
            }
        }
    }
}
