//! Which route a job takes, and which streams the routes need.

use std::collections::{BTreeSet, HashMap};

use protocol::name::{JobType, QueueName};

use super::{Route, RouteName};

/// From queue and type to route.
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
    /// How many of its jobs may run at a time.
    pub(crate) slots: u16,
}

impl RouteMap {
    /// The map of these routes, no two of which may be for the same jobs.
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
                "queue `{queue}` is given twice; of its routes only one can be without `type`"
            ));
        }
        for job_type in &route.types {
            if types.by_type.insert(job_type.clone(), route.name.clone()).is_some() {
                return Err(format!("queue `{queue}` has two routes for type `{job_type}`"));
            }
        }
        Ok(())
    }

    /// A route for each of these queues, called like it.
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
    /// The streams that these routes need. Routes that share a queue share a stream, for a stream gives the jobs of a
    /// queue in order, whatever their type.
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
    fn a_type_of_its_own_goes_before_the_others() {
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
