//! A real nginx in front of a broker.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Daemon, Port, eventually};

/// Where Debian's packages put the modules that are loaded at the start.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How nginx passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// As HTTP by nothing but `proxy_pass`: HTTP/1.0, and no upgrade.
    Http,
    /// The same with the headers of an upgrade and `X-Forwarded-For`.
    OlderUpgrade,
    /// The same as HTTP/1.1.
    Upgrade,
    /// As TCP, with a PROXY header.
    Stream,
}

/// A running nginx; it ends when it is dropped.
pub struct Nginx {
    port: Port,
    _folder: TempDir,
    _process: Daemon,
}

impl Nginx {
    /// Passes connections on to `server`. Returns once it listens.
    pub async fn start(pass: Pass, server: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let port = Port::free();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration(&folder, port.address(), pass, server)).unwrap();
        // Debian keeps it where not everybody's path leads.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = Command::new("nginx");
        command.env("PATH", path).arg("-c").arg(file).arg("-p").arg(folder.path());
        command.stderr(Stdio::piped());
        let mut process = Daemon::spawn(command);
        let listens = || {
            process.assert_alive();
            std::net::TcpStream::connect(port.address()).is_ok()
        };
        eventually("nginx listens", listens).await;
        Self { port, _folder: folder, _process: process }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

fn configuration(folder: &TempDir, address: SocketAddr, pass: Pass, server: SocketAddr) -> String {
    let folder = folder.path().display();
    let upgrade = "proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
    let (module, proxy) = match pass {
        Pass::Stream => {
            let stream = format!(
                "stream {{
    server {{
        listen {address};
        proxy_pass {server};
        proxy_protocol on;
    }}
}}"
            );
            (format!("load_module {STREAM_MODULE};"), stream)
        }
        Pass::Http | Pass::OlderUpgrade | Pass::Upgrade => {
            let version = if pass == Pass::Upgrade { "proxy_http_version 1.1;" } else { "" };
            let headers = if pass == Pass::Http { "" } else { upgrade };
            let http = format!(
                "http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address};
        location / {{
            proxy_pass http://{server};
            {version}
            {headers}
        }}
    }}
}}"
            );
            (String::new(), http)
        }
    };
    format!(
        "{module}
daemon off;
master_process off;
error_log stderr;
pid {folder}/pid;
events {{ worker_connections 64; }}
{proxy}
"
    )
}
