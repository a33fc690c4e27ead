//! Connections of checks that speak in turns: TCP, or TLS over it.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::deadline::{Deadline, Fault};
use super::tls::{Configs, Protocol};
use super::{Memory, tcp};
use crate::model::{DomainName, TlsCheck};

/// Where a check goes and when it must have ended, with what TLS needs.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) address: SocketAddr,
    pub(super) deadline: Deadline,
    pub(super) configs: &'a Configs,
    pub(super) memory: &'a mut Memory,
}

impl Way<'_> {
    /// A connection by which `protocol` is spoken: over TLS where `tls` says so, for the name
    /// there, or `host`.
    pub(super) async fn open(
        &mut self,
        tls: Option<&TlsCheck>,
        host: Option<&DomainName>,
        protocol: Protocol,
    ) -> Result<Connection, Fault> {
        let stream = tcp::connect(self.address, &mut self.deadline).await?;
        match tls {
            None => Ok(Connection::Plain(stream)),
            Some(check) => {
                let secured = self.configs.handshake(check, host, protocol, stream, self).await?;
                Ok(Connection::Secured(Box::new(secured)))
            }
        }
    }
}

/// What a check asks over.
#[derive(Debug)]
pub(super) enum Connection {
    Plain(TcpStream),
    /// Some kilobytes.
    Secured(Box<TlsStream<TcpStream>>),
}

/// What `reply` yields while `driver` moves the octets of its connection. When that has ended, what
/// came in is still there to be read, and what ended it is told to the reply as well.
pub(super) async fn driven<T>(reply: impl Future<Output = T>, driver: impl Future) -> T {
    let mut driver = pin!(driver);
    tokio::select! {
        biased;
        reply = reply => reply,
        never = async {
            let _ = driver.as_mut().await;
            std::future::pending().await
        } => never,
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Secured(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, octets),
            Self::Secured(stream) => Pin::new(stream).poll_write_vectored(context, octets),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secured(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
