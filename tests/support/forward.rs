//! A way to a server on loopback that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Forwards connections to one address until it is cut, and again when it is mended.
pub(crate) struct Forward {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    cut: bool,
    streams: Vec<TcpStream>,
}

impl Forward {
    /// A way to `target`. Its thread ends with the process: it owns nothing.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let ours = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut shared = ours.lock().unwrap_or_else(PoisonError::into_inner);
                if shared.cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let copy = |stream: &TcpStream| stream.try_clone().expect("a handle");
                    let (from, to) = (copy(from), copy(to));
                    thread::spawn(move || carry(from, to));
                }
                shared.streams.extend([client, server]);
            }
        });
        Self { address, shared }
    }

    /// Breaks what is open and lets nothing through.
    pub(crate) fn cut(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.cut = true;
        for stream in shared.streams.drain(..) {
            // It may be broken already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets everything through.
    pub(crate) fn mend(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).cut = false;
    }
}

/// Copies until either end is gone.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
