//! What the replicas hold on to in the course of a long run, as lines of a CSV file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::world::World;

pub struct Samples {
    file: File,
    began: Instant,
}

impl Samples {
    pub fn create(path: &Path) -> Self {
        let mut file = File::create(path).unwrap();
        writeln!(file, "seconds,replica,process,resident_kilobytes,files,tasks").unwrap();
        Self { file, began: Instant::now() }
    }

    pub async fn take(&mut self, world: &World) {
        for (number, replica) in world.replicas.iter().enumerate() {
            let (pid, holdings) = (replica.process.pid(), replica.process.holdings_at_rest().await);
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            let resident = resident.trim().trim_end_matches(" kB");
            let seconds = self.began.elapsed().as_secs();
            let (files, tasks) = (holdings.files, holdings.tasks);
            writeln!(self.file, "{seconds},{number},{pid},{resident},{files},{tasks}").unwrap();
        }
        self.file.flush().unwrap();
    }
}
