//! The listening end of the control port, inside the event loop.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token as Event};

use super::{Answer, COMMAND_BYTES_MAX, Command};
use crate::slots::{Part, Slots};
use crate::socket;

/// Controllers that may be connected at once; one more is closed at once.
const CONTROLLERS_MAX: usize = 16;

const READ_BYTES: usize = 16 << 10;

/// The control port's sockets.
#[derive(Debug)]
pub(crate) struct ControlPort {
    listeners: Vec<TcpListener>,
    controllers: Slots<Controller>,
}

#[derive(Debug)]
struct Controller {
    socket: TcpStream,
    line: Vec<u8>,
    /// The answer being written. No command is read before it is out, so that it stays one.
    answer: Vec<u8>,
    answer_sent: usize,
}

impl ControlPort {
    pub(crate) fn listen(registry: &Registry, addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut port = port;
        for (index, address) in addresses.iter().enumerate() {
            let mut listener = socket::listen(SocketAddr::new(*address, port))?;
            port = listener.local_addr()?.port();
            let token = Part::ControlListener.token(index, 0);
            registry.register(&mut listener, token, Interest::READABLE)?;
            listeners.push(listener);
        }
        Ok(Self { listeners, controllers: Slots::new(Part::Control, CONTROLLERS_MAX) })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        let first = self.listeners.first().ok_or(io::ErrorKind::NotConnected)?;
        Ok(first.local_addr()?.port())
    }

    /// Handles an event; `obey` carries out a command.
    pub(crate) fn event(
        &mut self,
        registry: &Registry,
        event: Event,
        obey: impl FnMut(Command) -> Answer,
    ) {
        match Part::of(event) {
            (Part::ControlListener, index) => self.accept(registry, index),
            _ => {
                let Some(controller) = self.controllers.get_mut(event) else { return };
                if controller.serve(obey).is_err() {
                    self.controllers.remove(event);
                }
            }
        }
    }

    fn accept(&mut self, registry: &Registry, index: usize) {
        let Some(listener) = self.listeners.get(index) else { return };
        while let Ok((mut socket, _)) = listener.accept() {
            let admitted = self.controllers.insert_with(|event| {
                registry.register(&mut socket, event, Interest::READABLE | Interest::WRITABLE)?;
                let (line, answer) = (Vec::new(), Vec::new());
                Ok::<_, io::Error>(Controller { socket, line, answer, answer_sent: 0 })
            });
            if let Err(error) = admitted {
                eprintln!("causeway-guest: a controller could not be served: {error}");
            }
        }
    }
}

impl Controller {
    /// Serves until the socket has nothing more. An error, the end of the stream included, ends it.
    fn serve(&mut self, mut obey: impl FnMut(Command) -> Answer) -> io::Result<()> {
        loop {
            while self.answer_sent < self.answer.len() {
                match self.socket.write(&self.answer[self.answer_sent..]) {
                    Ok(written) => self.answer_sent += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let answer = match serde_json::from_slice(&line) {
                    Ok(command) => obey(command),
                    Err(error) => Answer::Refused { reason: format!("no command: {error}") },
                };
                self.answer = serde_json::to_vec(&answer)?;
                self.answer.push(b'\n');
                self.answer_sent = 0;
                continue;
            }
            if self.line.len() > COMMAND_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = [0; READ_BYTES];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.line.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
