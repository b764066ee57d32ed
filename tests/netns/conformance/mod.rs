//! One contract for every firewall: scenarios, each written once against `dyn Firewall`, judged by
//! the system's own tool and by real connections.

pub mod backend;
pub mod clients;
pub mod drift;
pub mod faults;
pub mod ipt;
pub mod leases;
pub mod lives;
pub mod nft;
pub mod page;
pub mod reader;
pub mod site;
pub mod tools;
