//! Maps each job, by queue and type, to its route; and routes to the streams that they need.

use std::collections::{BTreeSet, HashMap};

use protocol::name::{JobType, QueueName};

use super::{Route, RouteName};

/// The route of each queue and type.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteMap(HashMap<QueueName, Types>);

#[derive(Debug, Clone, Default)]
struct Types {
    by_type: HashMap<JobType, RouteName>,
    others: Option<RouteName>,
}

/// A stream of jobs for some routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) queues: BTreeSet<QueueName>,
    pub(crate) routes: Vec<RouteName>,
    /// The maximum number of its jobs that run at a time.
    pub(crate) slots: u16,
}

impl RouteMap {
    /// Builds the map. Fails if two routes are for the same jobs.
    pub(crate) fn new<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Result<Self, String> {
        let mut map = Self::default();
        for route in routes {
            for queue in &route.queues {
                map.add(route, queue)?;
            }
        }
        Ok(map)
    }

    fn add(&mut self, route: &Route, queue: &QueueName) -> Result<(), String> {
        let types = self.0.entry(queue.clone()).or_default();
        if route.types.is_empty() && types.others.replace(route.name.clone()).is_some() {
            return Err(format!(
                "queue `{queue}` has two routes for all types; by flags a queue has one command or URL, and in a --config \
                 file all but one of its routes need a `type`"
            ));
        }
        for job_type in &route.types {
            if types.by_type.insert(job_type.clone(), route.name.clone()).is_some() {
                return Err(format!("queue `{queue}` has two routes for type `{job_type}`"));
            }
        }
        Ok(())
    }

    /// One route per queue, with the name of the queue.
    #[cfg(test)]
    pub(crate) fn by_queue(queues: &[&str]) -> Self {
        let types = |queue: &str| Types { by_type: HashMap::new(), others: Some(queue.into()) };
        Self(queues.iter().map(|queue| (QueueName::new(queue).unwrap(), types(queue))).collect())
    }

    /// The route of a job.
    pub(crate) fn find(&self, queue: &QueueName, job_type: &JobType) -> Option<&RouteName> {
        let types = self.0.get(queue)?;
        types.by_type.get(job_type).or(types.others.as_ref())
    }
}

impl Stream {
    /// The streams that these routes need. Routes that share a queue share a stream, because a stream delivers the jobs
    /// of a queue in order, whatever their type.
    pub(crate) fn of<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Vec<Self> {
        let mut streams: Vec<Self> = Vec::new();
        for route in routes {
            let mut stream = Self {
                queues: route.queues.iter().cloned().collect(),
                routes: vec![route.name.clone()],
                slots: route.concurrency.get(),
            };
            let (with, without) =
                streams.into_iter().partition(|other| !other.queues.is_disjoint(&stream.queues));
            streams = without;
            let with: Vec<Self> = with;
            for other in with.into_iter().rev() {
                stream.queues.extend(other.queues);
                stream.routes.splice(0..0, other.routes);
                stream.slots = stream.slots.saturating_add(other.slots);
            }
            streams.push(stream);
        }
        streams
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;
    use crate::config::Config;

    fn routes(file: &str) -> Vec<std::sync::Arc<Route>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.toml");
        std::fs::write(&path, file).unwrap();
        let args = Args::try_parse_from(["zizq-worker", "--config", path.to_str().unwrap()]).unwrap();
        Config::read(&args.flags).unwrap().routes
    }

    #[test]
    fn a_route_with_a_type_takes_precedence() {
        let routes = routes(
            r#"
            [[route]]
            queue = ["a", "b"]
            run = "true"
            [[route]]
            name = "special"
            queue = "b"
            type = ["x", "y"]
            run = "true"
            "#,
        );
        let map = RouteMap::new(routes.iter().map(|route| &**route)).unwrap();
        let find = |queue: &str, job_type: &str| {
            let queue = QueueName::new(queue).unwrap();
            map.find(&queue, &JobType::new(job_type).unwrap()).map(|name| name.to_string())
        };
        assert_eq!(find("a", "x").as_deref(), Some("a,b"));
        assert_eq!(find("b", "x").as_deref(), Some("special"));
        assert_eq!(find("b", "z").as_deref(), Some("a,b"));
        assert_eq!(find("c", "x"), None);
    }

    #[test]
    fn routes_that_share_a_queue_share_a_stream() {
        let routes = routes(
            r#"
            concurrency = 2
            route = [
              {queue = "a", run = "true"},
              {queue = "c", run = "true"},
              {queue = ["b", "c"], type = "x", run = "true"},
              {queue = ["a", "b"], type = "y", run = "true"},
              {queue = "z", run = "true", concurrency = 9},
            ]
            "#,
        );
        let streams = Stream::of(routes.iter().map(|route| &**route));
        let shape: Vec<_> = streams
            .iter()
            .map(|stream| {
                let queues: Vec<_> = stream.queues.iter().map(|queue| queue.as_str()).collect();
                (queues.join(","), stream.routes.len(), stream.slots)
            })
            .collect();
        assert_eq!(shape, [("a,b,c".to_owned(), 4, 8), ("z".to_owned(), 1, 9)]);
    }
}
