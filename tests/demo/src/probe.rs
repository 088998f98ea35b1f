//! Whether the VM's service answers at its VIPs, by TCP and by UDP: each has health checks of its own, and
//! takes a moment to be found well.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use guest::settings::PORT;
use guest::traffic::datagram::{ANSWER_BYTES, Answer, Ask};
use guest::traffic::hello::HELLO_MAGIC;
use lab::host::Host;

use crate::error::DemoError;

/// Longest wait for a greeting.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// Longest wait for an answer by UDP, where silence may mean that nobody was asked.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Whether a client there is served. Its connections may be known to the proxy for a while.
pub(crate) fn is_served(client: &Host, vips: &[IpAddr]) -> Result<bool, DemoError> {
    let at_one = |vip: &IpAddr| {
        let vip = SocketAddr::new(*vip, PORT);
        Ok::<_, io::Error>(is_greeted(vip)? && is_answered(vip)?)
    };
    Ok(client.inside(|| vips.iter().all(|vip| at_one(vip).unwrap_or(false)))?)
}

fn is_greeted(vip: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&vip, GREETING_MAX)?;
    stream.set_read_timeout(Some(GREETING_MAX))?;
    let mut hello = [0; HELLO_MAGIC.len()];
    stream.read_exact(&mut hello)?;
    Ok(hello == HELLO_MAGIC)
}

fn is_answered(vip: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = if vip.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(vip)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    let nonce = u64::from(socket.local_addr()?.port());
    let mut bytes = [0; ANSWER_BYTES];
    Ask { nonce, number: Some(0), sent_us: 0 }.encode(&mut bytes);
    socket.send(&bytes)?;
    let length = socket.recv(&mut bytes)?;
    let answer = bytes.get(..length).and_then(Answer::decode);
    Ok(answer.is_some_and(|answer| answer.nonce == nonce))
}
