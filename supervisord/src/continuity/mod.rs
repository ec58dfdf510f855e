//! What one daemon leaves to the next: `scribe` decides what is written into the journal and when, `heir` what becomes
//! of each record under the next daemon. Reading and writing, looking for processes and adopting them is the driver's.

pub mod heir;
pub mod scribe;
#[cfg(test)]
mod simulation;
