//! The address that others reach this instance at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Addresses that no host has (RFC 5737 and RFC 3849, for documentation): what the kernel would use to reach them is what it uses to
/// reach anything by its default route.
const FAR_AWAY: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// The advertised address: the one of the default route, or the one that `wanted` (an IP, an interface's name, a CIDR) chooses.
///
/// # Errors
/// The reason and the cure, for people.
pub fn advertised(wanted: Option<&str>) -> Result<IpAddr, String> {
    match wanted {
        None => of_default_route().ok_or_else(|| {
            "this host has no default route: give an IP, an interface's name or a CIDR".to_owned()
        }),
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => {
                Err("an address that others can reach; this one only means `all of mine`".to_owned())
            }
            Ok(address) => Ok(address),
            Err(_) => choose(text, &of_interfaces()),
        },
    }
}

/// Asks the kernel by connecting a datagram socket, which sends nothing (udp(7)) and needs no `/proc`.
fn of_default_route() -> Option<IpAddr> {
    FAR_AWAY.iter().find_map(|target| {
        let any: IpAddr = match target.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(target).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    })
}

/// Every address of every interface.
fn of_interfaces() -> Vec<(String, IpAddr)> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address: SockaddrStorage = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
            Some((interface.interface_name, v4.or(v6)?))
        })
        .collect()
}

/// By interface name or CIDR, among the given addresses. Link-local IPv6 addresses are of no use without their zone; a loopback address is
/// taken by a CIDR only where it matches nothing else, since nobody else can reach it.
fn choose(wanted: &str, addresses: &[(String, IpAddr)]) -> Result<IpAddr, String> {
    let usable = |address: &&IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let range =
        wanted.split_once('/').and_then(|(base, bits)| Some((base.parse().ok()?, bits.parse().ok()?)));
    let chosen = match range {
        Some((base, bits)) => addresses
            .iter()
            .map(|(_, address)| address)
            .filter(usable)
            .filter(|address| contains(base, bits, **address))
            .min_by_key(|address| address.is_loopback()),
        None => addresses.iter().filter(|(name, _)| name == wanted).map(|(_, address)| address).find(usable),
    };
    chosen.copied().ok_or_else(|| {
        let known: Vec<String> =
            addresses.iter().map(|(name, address)| format!("{name} {address}")).collect();
        format!("an IP, an interface's name or a CIDR that matches one of: {}", known.join(", "))
    })
}

/// Whether `address` is in the network `base`/`bits` (RFC 4632).
fn contains(base: IpAddr, bits: u32, address: IpAddr) -> bool {
    let same = |base: u128, address: u128, width: u32| {
        bits <= width && (base ^ address).checked_shr(width - bits).unwrap_or(0) == 0
    };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            same(u128::from(base.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// An address as it stands in a URL or before a port: IPv6 in brackets (RFC 3986, 3.2.2).
pub fn in_url(address: &str) -> String {
    if address.parse::<Ipv6Addr>().is_ok() { format!("[{address}]") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<(String, IpAddr)> {
        [
            ("lo", "127.0.0.1"),
            ("eth0", "fe80::1"),
            ("eth0", "10.1.2.3"),
            ("eth1", "192.168.7.9"),
            ("eth1", "2001:db8::7"),
        ]
        .map(|(name, address)| (name.to_owned(), address.parse().expect("address")))
        .to_vec()
    }

    #[test]
    fn an_interface_or_a_cidr_chooses_among_several_addresses() {
        for (wanted, expected) in [
            ("eth0", "10.1.2.3"),
            ("eth1", "192.168.7.9"),
            ("192.168.0.0/16", "192.168.7.9"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("2001:db8::/32", "2001:db8::7"),
            ("0.0.0.0/0", "10.1.2.3"),
            ("127.0.0.0/8", "127.0.0.1"),
        ] {
            assert_eq!(
                choose(wanted, &host()).map(|address| address.to_string()).as_deref(),
                Ok(expected),
                "{wanted}"
            );
        }
    }

    #[test]
    fn what_matches_nothing_is_refused_with_what_there_is() {
        for wanted in ["eth9", "10.9.0.0/16", "10.1.2.3/33", "2001:db8::/129", "fe80::/10"] {
            let reason = choose(wanted, &host()).expect_err(wanted);
            assert!(reason.contains("eth1 192.168.7.9"), "{reason}");
        }
        assert!(advertised(Some("0.0.0.0")).is_err());
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        assert_eq!(in_url("2001:db8::7"), "[2001:db8::7]");
        assert_eq!(in_url("10.0.0.1"), "10.0.0.1");
    }
}
