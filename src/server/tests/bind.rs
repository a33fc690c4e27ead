use super::*;

#[test]
fn udp_and_tcp_share_the_port_that_the_system_chose() {
    let mut settings = settings(&["127.0.0.1:0", "127.0.0.2:0"]);
    settings.udp_workers = NonZeroUsize::new(3).unwrap();
    settings.http = Some("127.0.0.1:0".parse().unwrap());
    let sockets = Sockets::bind(&settings).unwrap();
    assert_ne!(sockets.http.unwrap().address().port(), 0);
    assert_eq!(sockets.dns.addresses().count(), 2);
    for socket in &sockets.dns.sockets {
        assert_ne!(socket.address.port(), 0);
        assert_eq!(socket.tcp.local_addr().unwrap(), socket.address);
        assert_eq!(socket.udp.len(), 3);
        for udp in &socket.udp {
            assert_eq!(udp.local_addr().unwrap(), socket.address);
        }
    }
}

#[test]
fn a_second_server_is_refused_with_the_address_and_the_reason() {
    let first = Sockets::bind(&settings(&["127.0.0.1:0"])).unwrap();
    let address = first.dns.addresses().next().unwrap();
    let error = Sockets::bind(&settings(&[&address.to_string()])).unwrap_err().to_string();
    assert!(error.contains(&format!("{address} (DNS over TCP)")), "{error}");
    assert!(error.ends_with("is another server running?"), "{error}");
}

#[test]
fn a_port_taken_over_udp_alone_is_refused() {
    // An address of its own, where no other test can have taken the port over TCP.
    let other = std::net::UdpSocket::bind("127.0.7.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let error = Sockets::bind(&settings(&[&address.to_string()])).unwrap_err().to_string();
    assert!(error.contains(&format!("{address} (DNS over UDP)")), "{error}");
}

#[test]
fn an_address_that_no_interface_has_is_a_mistake() {
    // 192.0.2.0/24 is for documentation. Nothing is sent.
    let error = Sockets::bind(&settings(&["192.0.2.1:0"])).unwrap_err().to_string();
    assert!(error.ends_with("no interface of this machine has this address"), "{error}");
    if bind(&settings(&["[::1]:0"])).is_some() {
        let error = Sockets::bind(&settings(&["[2001:db8::1]:0"])).unwrap_err().to_string();
        assert!(error.contains("[2001:db8::1]:0"), "{error}");
    }
}

#[test]
fn ipv4_and_ipv6_wildcards_share_a_port() {
    // A passer-by may have taken the port for IPv4, but not every time; `[::]` would.
    let shared = (0..5).any(|_| {
        let Some(first) = bind(&settings(&["[::]:0"])) else { return true };
        let port = first.dns.addresses().next().unwrap().port();
        std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
    });
    assert!(shared, "[::] takes IPv4 too");
}
