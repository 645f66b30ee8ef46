// Owns: the table of verbs: every word that help, completion and the reference page show. Loads no verb's code (see load.ts).
// rule 2: longer than 400 lines would be fine here; it is one flat table that is read as a page.

import type { FlagSpec, VerbSpec } from "./spec.ts";

const watchFlag: FlagSpec = { name: "watch", short: "w", help: "go on and print each change as it comes" };
const selectorFlag: FlagSpec = {
  name: "selector",
  short: "l",
  value: "SELECTOR",
  help: "only objects with these labels, for example app=reviews,version!=v1",
};
const filesFlag: FlagSpec = {
  name: "filename",
  short: "f",
  value: "FILE|DIR|-",
  repeat: true,
  operand: "file",
  help: "file, folder (its *.yaml, *.yml, *.json) or - for stdin; may be given several times",
};
const everywhereFlag: FlagSpec = { name: "all-namespaces", short: "A", help: "in all namespaces" };

export const verbs: readonly VerbSpec[] = [
  {
    name: "up",
    summary: "start the control plane: API, xDS, identity, analysis and dashboard in one process",
    about: [
      "Keeps everything in one folder: the database, the certificate authority, the administrator's credential. A second `weft up` on the same folder is refused.",
      "Listens on the loopback address. On a restart the ports of the last run are taken again, so that sidecars find it.",
      "Each flag can also stand in the environment ($WEFT_API_PORT for --api-port) and in a file (--config or $WEFT_CONFIG; api-port: 7443). A flag goes before the environment, that before the file, that before the default.",
    ],
    operands: [],
    flags: [
      { name: "data", value: "DIR", operand: "folder", help: "folder for all state (default $WEFT_DATA, then ~/.weft)" },
      { name: "listen", value: "ADDRESS", help: "address to listen on (default 127.0.0.1)" },
      { name: "api-port", value: "PORT", help: "REST API over HTTPS (default 7443; 0 = any free port)" },
      { name: "xds-port", value: "PORT", help: "configuration, identity, metrics and access logs of sidecars (default 7444)" },
      { name: "dashboard-port", value: "PORT", help: "dashboard on the loopback address (default 7445)" },
      {
        name: "trust-domain",
        value: "NAME",
        help: "trust domain of the mesh's identities, fixed at the first start (default cluster.local)",
      },
      { name: "api-rate", value: "N", help: "requests a second that one user or service account may make (default 200; 0 = no limit)" },
      {
        name: "store",
        value: "STORE",
        help: "sqlite (default, in the folder), or etcd://HOST:PORT,HOST:PORT/PREFIX, which several control planes share",
      },
      {
        name: "store-key",
        value: "FILE",
        operand: "file",
        help: "etcd: seals the mesh's keys there; the same file for every control plane",
      },
      { name: "etcd-ca", value: "FILE", operand: "file", help: "etcd: roots that its certificate is checked against (PEM)" },
      { name: "etcd-cert", value: "FILE", operand: "file", help: "etcd: client certificate, with --etcd-key" },
      { name: "etcd-key", value: "FILE", operand: "file", help: "etcd: its key" },
      { name: "etcd-user", value: "NAME", help: "etcd: user to log in as" },
      { name: "etcd-password-file", value: "FILE", operand: "file", help: "etcd: its password (or $WEFT_ETCD_PASSWORD)" },
      { name: "etcd-max-request-bytes", value: "N", help: "etcd: what its flag of that name says (default 1572864)" },
      { name: "xds-address", value: "HOST:PORT", help: "address that proxies are told to connect to (default: the one listened on)" },
      { name: "config", value: "FILE", operand: "file", help: "YAML file with these flags as keys (api-port: 7443)" },
      {
        name: "log-level",
        value: "LEVEL",
        choices: ["debug", "info", "warn", "error", "silent"],
        help: "least level of its log (default info)",
      },
      { name: "log-format", value: "FORMAT", choices: ["text", "json"], help: "form of its log, on stderr (default text)" },
    ],
    usesApi: false,
    examples: [
      { says: "start with everything in ~/.weft", command: "weft up" },
      { says: "from a file, with another level of log", command: "weft up --config /etc/weft/weft.yaml --log-level debug" },
      { says: "a throw-away mesh on free ports", command: "weft up --data ./mesh --api-port 0 --xds-port 0 --dashboard-port 0" },
    ],
  },
  {
    name: "run",
    summary: "run a program as an instance of a service, with a sidecar beside it",
    about: [
      "Starts a sidecar, then COMMAND; registers the instance when 127.0.0.1:PORT takes connections; unregisters it before COMMAND ends. Signals go to COMMAND, and its exit status is weft run's.",
      "COMMAND reaches other services as http://NAME/, http://NAME.NAMESPACE/ or http://NAME.NAMESPACE.svc.cluster.local/ through HTTP_PROXY, which is set for it together with http_proxy, NO_PROXY, no_proxy, NODE_USE_ENV_PROXY and JAVA_TOOL_OPTIONS. A program that knows no proxy (Node before 22.21 and 24.5, most database drivers) takes --upstream: a port on 127.0.0.1 that leads to a service.",
      "While the control plane is away, an instance that has run here before with the same flags starts from what that run has kept (under $XDG_STATE_HOME/weft/run, else ~/.local/state/weft/run), with the name and ports it had, and is registered when the control plane is back.",
      "A Service is created if there is none of that name. Peers reach the instance over mutual TLS only, through the sidecar's inbound port; PORT itself should listen on 127.0.0.1.",
    ],
    operands: [],
    takesCommand: true,
    flags: [
      { name: "service", value: "NAME", operand: "service", help: "service that this is an instance of (required)" },
      { name: "port", value: "PORT", help: "port that COMMAND listens on; without it COMMAND only calls others" },
      { name: "version", value: "VERSION", help: "version of this instance, a label that routes can tell apart" },
      {
        name: "upstream",
        value: "NAME=PORT",
        repeat: true,
        help: "open 127.0.0.1:PORT for COMMAND and lead it to service NAME[.NAMESPACE][:SERVICEPORT]; PORT/udp for datagrams; may be given several times",
      },
      {
        name: "uses",
        value: "NAME",
        repeat: true,
        help: "COMMAND calls service NAME[.NAMESPACE][:SERVICEPORT] and no others but its upstreams: the sidecar is given these only; may be given several times (default: all of the mesh). With '*' also any other service, when it is first called",
      },
      {
        name: "protocol",
        value: "PROTOCOL",
        choices: ["http", "http2", "grpc", "tcp", "udp"],
        help: "what COMMAND speaks on PORT: http (default), http2 or grpc (HTTP/2 without TLS), tcp, or udp (plain datagrams, where PeerAuthentication allows them)",
      },
      { name: "gateway", value: "NAME", help: "the sidecar opens the ports of Gateway NAME; what weft gateway does" },
      { name: "service-port", value: "PORT", help: "port of the Service (default 80 for http, PORT for tcp and udp)" },
      { name: "address", value: "ADDRESS", help: "address of this machine that peers dial; the sidecar listens there (default 127.0.0.1)" },
      {
        name: "service-account",
        value: "NAME",
        help: "identity to run as (default: the service's name; a join credential brings its own)",
      },
      { name: "port-variable", value: "VARIABLE", help: "also tell COMMAND its port in this environment variable, for example PORT" },
      { name: "wait", value: "TIME", help: "how long to wait for the control plane at the start (default 60s)" },
      {
        name: "ready-timeout",
        value: "TIME",
        help: "stop with status 1 when PORT takes no connection by then (default: wait as long as COMMAND runs)",
      },
      { name: "health-http", value: "PATH", help: "register only while GET PATH of COMMAND answers 200 to 399" },
      { name: "health-grpc", value: "SERVICE", help: "the same by grpc.health.v1 for SERVICE, - for the whole server" },
      { name: "health-tcp", help: "the same while PORT takes connections" },
      { name: "health-command", value: "WORDS", help: "the same while this shell command ends with status 0" },
      { name: "health-interval", value: "TIME", help: "how often it is asked (default 5s)" },
      { name: "health-timeout", value: "TIME", help: "how long an answer may take (default 1s)" },
      { name: "health-failures", value: "N", help: "failures in a row until it gets no more requests (default 3)" },
      { name: "health-successes", value: "N", help: "successes in a row until it gets requests again (default 1)" },
      {
        name: "locality",
        value: "REGION/ZONE",
        help: "where this instance is: nearer instances are called first where a DestinationRule asks",
      },
      { name: "drain-timeout", value: "TIME", help: "how long the sidecar may finish open requests at the end (default 5s)" },
      {
        name: "workers",
        value: "N",
        help: "processes of the sidecar that serve traffic on the same ports, auto for one a core (default 1: no process but its own); Linux",
      },
      {
        name: "workload-api",
        help: "COMMAND gets the identity of its sidecar by the SPIFFE Workload API: $SPIFFE_ENDPOINT_SOCKET names the socket, Envoy's SDS is there too",
      },
      {
        name: "control",
        value: "ADDRESSES",
        help: "host:port of each control plane, separated by commas, where the sidecar gets its configuration (default: those that the mesh names)",
      },
      {
        name: "no-direct",
        help: "leave the ports of --upstream closed while the sidecar is down (default: lead them to the instances known last, where policy allows plain text); Linux",
      },
      { name: "quiet", short: "q", help: "print errors only" },
      { name: "verbose", help: "also print what the sidecar logs" },
    ],
    usesApi: true,
    examples: [
      { says: "an HTTP service", command: "weft run --service cart --port 8081 -- node cart.js" },
      {
        says: "version v2 of reviews, in namespace shop",
        command: "weft run --service reviews --version v2 -n shop --port 9080 -- ./reviews",
      },
      {
        says: "a program that knows no proxy reaches the database's port 5432 as 127.0.0.1:15432",
        command: "weft run --service orders --port 8090 --upstream db:5432=15432 -- ./orders --db 127.0.0.1:15432",
      },
      { says: "a TCP service", command: "weft run --service db --protocol tcp --port 5432 -- ./database" },
      { says: "a UDP service", command: "weft run --service dns --protocol udp --port 5353 -- ./dns" },
      {
        says: "a program that asks it at 127.0.0.1:5300",
        command: "weft run --service web --port 8081 --upstream dns=5300/udp -- ./web",
      },
      { says: "a job or a shell that only calls others", command: "weft run --service report -- curl http://cart/carts/1" },
    ],
  },
  {
    name: "gateway",
    summary: "serve a Gateway: open its ports on this machine and lead what comes in into the mesh",
    about: [
      "Starts a proxy that opens the port of every listener of Gateway NAME at ADDRESS, and keeps to the Gateway's changes until it is told to end (SIGTERM, SIGINT). Calls into the mesh go over mutual TLS with its own identity.",
      "Several processes, on several machines, may serve one Gateway. Its status says where: weft get gateways.",
    ],
    operands: [{ name: "NAME", required: true, operand: "text" }],
    flags: [
      {
        name: "address",
        value: "ADDRESS",
        help: "address of this machine that clients dial; the ports are opened there (default 127.0.0.1)",
      },
      { name: "service-account", value: "NAME", help: "identity to run as (default: NAME; a join credential brings its own)" },
      { name: "wait", value: "TIME", help: "how long to wait for the control plane at the start (default 60s)" },
      { name: "drain-timeout", value: "TIME", help: "how long open requests may finish at the end (default 5s)" },
      { name: "workers", value: "N", help: "processes that serve traffic on the same ports, auto for one a core (default 1); Linux" },
      { name: "quiet", short: "q", help: "print errors only" },
      { name: "verbose", help: "also print what the proxy logs" },
    ],
    usesApi: true,
    examples: [
      { says: "the Gateway edge of namespace shop, for clients of this network", command: "weft gateway edge -n shop --address 192.0.2.7" },
    ],
  },
  {
    name: "proxy",
    summary: "run one proxy from an Envoy bootstrap file (what weft run starts as the sidecar)",
    about: [
      "Takes the file that Envoy takes, JSON or YAML, as far as Weft's subset of Envoy's configuration goes; anything else in it is refused with its path.",
    ],
    operands: [],
    flags: [
      { name: "bootstrap", value: "FILE", operand: "file", help: "Envoy bootstrap (required)" },
      { name: "token-file", value: "FILE", operand: "file", help: "join token, read once for the first certificate" },
      { name: "drain-seconds", value: "SECONDS", help: "how long open requests may finish at SIGTERM (default 5)" },
      {
        name: "workers",
        value: "N",
        help: "processes that serve traffic on the same ports, auto for one a core (default 1: no process but this one); Linux",
      },
      {
        name: "handover",
        value: "PATH",
        operand: "file",
        help: "take the place of the proxy that runs with this PATH, if there is one, without refusing a connection; then wait there for a successor; Linux",
      },
      {
        name: "snapshot",
        value: "DIR",
        operand: "folder",
        help: "keep what the control plane gave in this private folder, certificate and key included, and start from it when there is one",
      },
      {
        name: "when-unrenewed",
        value: "STANCE",
        choices: ["keep", "close"],
        help: "when the certificate expires and nobody has renewed it: keep (default; no new handshakes, the rest is served on) or close every listener",
      },
      {
        name: "workload-api",
        value: "PATH",
        operand: "file",
        help: "tell the identity of this proxy to programs of this user, at a Unix socket: SPIFFE Workload API, and Envoy's secret discovery (SDS)",
      },
      {
        name: "log-level",
        value: "LEVEL",
        choices: ["debug", "info", "warn", "error", "silent"],
        help: "least level of its JSON lines on stderr (default info)",
      },
    ],
    usesApi: false,
    examples: [
      { says: "a proxy with static listeners and clusters", command: "weft proxy --bootstrap envoy.yaml" },
      { says: "one process for each core", command: "weft proxy --bootstrap envoy.yaml --workers auto" },
      {
        says: "start it, and later start the next version the same way: it takes over and the first one ends",
        command: "weft proxy --bootstrap envoy.yaml --handover /run/weft/edge.sock",
      },
    ],
  },
  {
    name: "agent",
    summary: "give an identity and a way to the control plane to programs that have an xDS of their own (Envoy, gRPC)",
    about: [
      "Gets a certificate for a service account and renews it. Keeps it in DIR as key.pem, cert.pem and roots.pem, for programs that read files, and serves DIR/agent.sock: Envoy's secrets (SDS), the SPIFFE Workload API, and the discovery, load report and client status streams of the control plane under this identity.",
      "DIR is for one user alone: who may enter it may have the identity. weft bootstrap writes the file that leads a program there.",
    ],
    operands: [],
    flags: [
      { name: "dir", value: "DIR", operand: "folder", help: "folder for socket and files, made if missing, mode 0700 (required)" },
      { name: "service-account", value: "NAME", help: "identity to have (default: default; a join credential brings its own)" },
      { name: "wait", value: "TIME", help: "how long to wait for the control plane at the start (default 60s)" },
      {
        name: "log-level",
        value: "LEVEL",
        choices: ["debug", "info", "warn", "error", "silent"],
        help: "least level of its JSON lines on stderr (default warn)",
      },
    ],
    usesApi: true,
    examples: [
      { says: "for the programs of service account web", command: "weft agent --dir /run/weft/web -n shop --service-account web" },
    ],
  },
  {
    name: "bootstrap",
    summary: "write the xDS bootstrap of a gRPC program without a proxy, or of an Envoy",
    about: [
      "The program reaches the control plane over the socket of weft agent in DIR, which must run for it, under the agent's identity. Needs no control plane itself.",
      "A gRPC program finds the file by GRPC_XDS_BOOTSTRAP and dials xds:///SERVICE:PORT. One that serves by xDS, and every Envoy, needs a WorkloadEntry of this name whose service account is the agent's.",
    ],
    operands: [],
    flags: [
      { name: "grpc", help: "for gRPC (Go, C++, Python, Node, Java)" },
      { name: "envoy", help: "for Envoy, as a sidecar" },
      { name: "dir", value: "DIR", operand: "folder", help: "folder of weft agent (required)" },
      { name: "name", value: "NAME", help: "name of the WorkloadEntry; of a gRPC program that only calls, any name (required)" },
      {
        name: "namespace",
        short: "n",
        value: "NAMESPACE",
        operand: "namespace",
        help: "namespace of the identity (default: default)",
      },
      {
        name: "gateway",
        value: "ADDRESS:PORT",
        help: "with --envoy: also listen there for callers outside the mesh, with the hosts and routes of the namespace",
      },
      { name: "sotw", help: "with --envoy: state of the world instead of delta xDS" },
      { name: "admin-port", value: "PORT", help: "with --envoy: its admin interface on 127.0.0.1" },
    ],
    usesApi: false,
    examples: [
      { says: "for a gRPC program", command: "weft bootstrap --grpc --dir /run/weft/web -n shop --name web > grpc.json" },
      {
        says: "for an Envoy at the edge",
        command: "weft bootstrap --envoy --dir /run/weft/edge -n shop --name edge-1 --gateway 0.0.0.0:8080 > envoy.json",
      },
    ],
  },
  {
    name: "apply",
    summary: "create or change objects so that they are as files say",
    about: [
      "Files may hold several documents. Services go before what refers to them. What an earlier apply set and a file says no more is removed; what others set stays.",
      "Every fault is shown with file, line and field; objects without faults are applied.",
    ],
    operands: [],
    flags: [
      filesFlag,
      {
        name: "atomic",
        help: "all or nothing: one fault, and no object is changed; contradictions are looked for among the outcomes of all",
      },
      {
        name: "dry-run",
        value: "server",
        choices: ["server", "client"],
        help: "let the control plane judge everything, and store nothing",
      },
    ],
    usesApi: true,
    outputs: ["text", "name", "json", "yaml"],
    examples: [
      { says: "one file", command: "weft apply -f routes.yaml" },
      { says: "a folder, into namespace shop", command: "weft apply -n shop -f mesh/" },
      { says: "a folder as one change", command: "weft apply --atomic -f mesh/" },
      { says: "from another program", command: "generate-routes | weft apply -f -" },
    ],
  },
  {
    name: "diff",
    summary: "show what files would change, object by object and proxy by proxy",
    about: [
      "The control plane judges the files as `weft apply --atomic` would have it, and compiles the mesh before and after. Nothing is stored.",
      "The second half says what the proxies would do otherwise: routes, clusters, endpoints, listeners and permissions that appear (+) or vanish (-), and for which proxies.",
    ],
    operands: [],
    flags: [filesFlag, { name: "exit-code", help: "exit with status 1 when something would change" }],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "before applying", command: "weft diff -f routes.yaml" },
      { says: "in a pipeline: is the mesh as the repository says?", command: "weft diff --exit-code -f mesh/" },
    ],
  },
  {
    name: "validate",
    summary: "check files without a control plane",
    about: [
      "By the code that judges them when they are applied: fields and their values, what is not built, contradictions among the files, references. The list is complete, each line with file, line and document.",
      "A reference to something that is not in the files is a warning, since it may be in the mesh; with --complete it is an error.",
    ],
    operands: [],
    flags: [
      filesFlag,
      { name: "namespace", short: "n", value: "NAMESPACE", help: "namespace of objects that name none (default: default)" },
      { name: "complete", help: "nothing is there beside what the files say: what they refer to must be among them" },
      { name: "trust-domain", value: "NAME", help: "trust domain of the mesh (default cluster.local)" },
    ],
    usesApi: false,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "a folder", command: "weft validate -f mesh/" },
      { says: "in a pipeline, for a program", command: "weft validate -f mesh/ -o json" },
    ],
  },
  {
    name: "get",
    summary: "list objects, or show some",
    about: ["KIND is any kind the control plane has: plural, singular, short name, KIND.GROUP, or `all`. Kinds may be joined by commas."],
    operands: [
      { name: "KIND", required: true, operand: "kind" },
      { name: "NAME", required: false, repeat: true, operand: "object" },
    ],
    flags: [
      everywhereFlag,
      watchFlag,
      selectorFlag,
      { name: "show-managed-fields", help: "with -o yaml or json: also who manages which field" },
    ],
    usesApi: true,
    outputs: ["table", "wide", "yaml", "json", "name"],
    examples: [
      { says: "instances in namespace shop", command: "weft get workloadentries -n shop" },
      { says: "one route as YAML", command: "weft get httproute reviews -o yaml" },
      { says: "watch routes and services change", command: "weft get services -A -w" },
    ],
  },
  {
    name: "describe",
    summary: "show one object with its conditions and the live state around it",
    about: [
      "For a Service: its instances, routes, policies and callers; for a WorkloadEntry: its sidecar; for a route or policy: what it holds for.",
    ],
    operands: [
      { name: "KIND", required: true, operand: "kind" },
      { name: "NAME", required: false, operand: "object" },
    ],
    flags: [],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "a service", command: "weft describe service reviews -n shop" },
      { says: "the same", command: "weft describe service/reviews -n shop" },
    ],
  },
  {
    name: "delete",
    summary: "delete objects",
    about: ["By kind and name, by what files say, or by label."],
    operands: [
      { name: "KIND", required: false, operand: "kind" },
      { name: "NAME", required: false, repeat: true, operand: "object" },
    ],
    flags: [
      filesFlag,
      selectorFlag,
      { name: "all", help: "every object of KIND in the namespace" },
      { name: "ignore-not-found", help: "an object that is not there is no error" },
    ],
    usesApi: true,
    outputs: ["text", "name"],
    examples: [
      { says: "one route", command: "weft delete httproute reviews -n shop" },
      { says: "what a file says", command: "weft delete -f routes.yaml" },
    ],
  },
  {
    name: "history",
    summary: "show what was written, by whom and when",
    about: [
      "Newest first, as far back as the control plane keeps it (10 000 writes, its own included). Without KIND: of the namespace; with -A of all.",
      "Writes of one transaction (`weft apply --atomic`, `weft rollback`) name their first revision under TRANSACTION.",
    ],
    operands: [
      { name: "KIND", required: false, operand: "kind" },
      { name: "NAME", required: false, operand: "object" },
    ],
    flags: [
      everywhereFlag,
      { name: "all", help: "also what the control plane wrote by itself: statuses, health, Events" },
      { name: "limit", value: "N", help: "at most so many, 1 to 1000 (default 20)" },
    ],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "of the whole mesh", command: "weft history -A" },
      { says: "of one route", command: "weft history httproute reviews -n shop" },
    ],
  },
  {
    name: "rollback",
    summary: "bring objects back to what they were at a revision",
    about: [
      "Everything configured in the namespace (with -A in all, with KIND and NAME one object) becomes what it was just after REVISION, in one transaction: changed, restored or deleted. It is a write like any other and stands in the history.",
      "Registrations of running instances, Namespaces and Events are left alone; users, roles and bindings too, unless KIND names them: what was revoked stays revoked.",
    ],
    operands: [
      { name: "REVISION", required: true, operand: "text" },
      { name: "KIND", required: false, operand: "kind" },
      { name: "NAME", required: false, operand: "object" },
    ],
    flags: [everywhereFlag, { name: "dry-run", help: "show what would change, object by object and proxy by proxy" }],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "look first", command: "weft rollback 812 -n shop --dry-run" },
      { says: "one route", command: "weft rollback 812 httproute reviews -n shop" },
    ],
  },
  {
    name: "export",
    summary: "print everything that was configured, as YAML that can be applied again",
    about: [
      "All namespaces, or one with -n. Without what the server adds, and without registrations of running instances, statuses and Events.",
    ],
    operands: [],
    flags: [],
    usesApi: true,
    examples: [
      { says: "the whole mesh into a file", command: "weft export > mesh.yaml" },
      { says: "into another mesh", command: "weft export -n shop | weft apply --kubeconfig other.kubeconfig -f -" },
    ],
  },
  {
    name: "backup",
    summary: "write the control plane's state and keys into one file, while it runs",
    about: [
      "All objects with their history, true at one revision, the certificate authority, the key of join tokens and the administrator's token. Mode 0600; a file that is there is never overwritten.",
    ],
    operands: [{ name: "FILE", required: true, operand: "file" }],
    flags: [],
    usesApi: true,
    examples: [{ says: "each night", command: "weft backup weft-$(date +%F).backup" }],
  },
  {
    name: "restore",
    summary: "put a backup into an empty folder, to start a control plane from",
    about: [
      "The file is checked first. A folder that holds a mesh is refused. Sidecars find the restored control plane again if it runs at the same address: it has the same keys and ports.",
    ],
    operands: [{ name: "FILE", required: true, operand: "file" }],
    flags: [{ name: "data", value: "DIR", operand: "folder", help: "folder for all state (default $WEFT_DATA, then ~/.weft)" }],
    usesApi: false,
    examples: [{ says: "on another machine", command: "weft restore weft-2026-11-23.backup --data ./mesh && weft up --data ./mesh" }],
  },
  {
    name: "store",
    summary: "move a store from one medium to another: SQLite, etcd",
    about: [
      "copy takes everything along: objects, history with its revisions, the certificate authority and the keys. The copy is read back and compared by count and hash. The source stays as it is.",
      "STORE is sqlite:DIR (the folder of a control plane that is stopped) or etcd://HOST:PORT,HOST:PORT/PREFIX (etcds:// by TLS). The target must be empty.",
    ],
    operands: [{ name: "copy", required: true, operand: "text" }],
    flags: [
      { name: "from", value: "STORE", help: "where it is (required)" },
      { name: "to", value: "STORE", help: "where it shall be (required)" },
      { name: "online", help: "copy out of etcd although control planes use it: what they write meanwhile is not in the copy" },
      { name: "store-key", value: "FILE", operand: "file", help: "seals the mesh's keys in etcd, as with weft up" },
      { name: "etcd-ca", value: "FILE", operand: "file", help: "roots that etcd's certificate is checked against (PEM)" },
      { name: "etcd-cert", value: "FILE", operand: "file", help: "client certificate, with --etcd-key" },
      { name: "etcd-key", value: "FILE", operand: "file", help: "its key" },
      { name: "etcd-user", value: "NAME", help: "user to log in as" },
      { name: "etcd-password-file", value: "FILE", operand: "file", help: "its password (or $WEFT_ETCD_PASSWORD)" },
    ],
    usesApi: false,
    examples: [
      {
        says: "from one machine to a cluster of etcd",
        command: "weft store copy --from sqlite:./mesh --to etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/weft",
      },
    ],
  },
  {
    name: "ca",
    summary: "the certificate authority: its state, a new root under traffic, who is refused",
    about: [
      "status shows who issues, which roots are trusted, and how far the replacing of a root is.",
      "rotate makes a new root. It goes by itself from there: proxies are told of it; when all have it, it issues and they renew; when the last certificate of the old root has ended, a day later, that is dropped. finish takes the next step now and names who would be cut off (--force: whoever is); abandon goes back to the old root.",
      "revoke refuses a certificate, all of a service account, or a join token, at every peer and at the control plane; revocations lists what is refused, lift NAME takes it back.",
      "encrypt and decrypt put the authority's key in a data folder under a passphrase, or take it from under it, while no control plane uses the folder.",
    ],
    operands: [
      { name: "status|rotate|finish|abandon|revoke|revocations|lift|encrypt|decrypt", required: true, operand: "text" },
      { name: "NAME", required: false, repeat: true, operand: "text" },
    ],
    flags: [
      { name: "force", help: "finish: also when some have not got the new root, or have certificates of the old one" },
      { name: "serial", value: "HEX", help: "revoke: the serial number of one certificate" },
      {
        name: "service-account",
        value: "NAME",
        help: "revoke: every certificate of this account in --namespace, and none is issued until it is lifted",
      },
      { name: "rejoin", help: "revoke: with --service-account, only what was issued so far; who comes with a join token gets a new one" },
      { name: "token-file", value: "FILE", operand: "file", help: "revoke: the join token in this file, or in this kubeconfig" },
      { name: "reason", value: "TEXT", help: "revoke: why, for those who are refused and for the list" },
      { name: "data", value: "DIR", operand: "folder", help: "encrypt, decrypt: the data folder (default $WEFT_DATA, then ~/.weft)" },
      {
        name: "passphrase-file",
        value: "FILE",
        operand: "file",
        help: "encrypt, decrypt: its first line is the passphrase (or $WEFT_CA_PASSPHRASE)",
      },
      {
        name: "new-passphrase-file",
        value: "FILE",
        operand: "file",
        help: "encrypt: the passphrase from now on, where --passphrase-file has the one so far",
      },
    ],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "how it stands", command: "weft ca status" },
      { says: "replace the root, under traffic", command: "weft ca rotate" },
      {
        says: "a machine was broken into: what it had is worthless, its successor joins anew",
        command: 'weft ca revoke --service-account reviews -n shop --rejoin --reason "host r7 lost"',
      },
      { says: "put the key under a passphrase", command: "weft ca encrypt --data ./mesh --passphrase-file pass" },
    ],
  },
  {
    name: "token",
    summary: "give out, list and revoke credentials for joining the mesh",
    about: [
      "create prints a kubeconfig for `weft run` as that service account on another machine, and for nothing else. By default it is good for one certificate; with --reusable for as many as are asked for until it expires.",
      "list shows what was given out and whether it was used; revoke NAME makes one worthless at once. Certificates that were got with it live on for a day at most; `weft delete workloadentry` takes an instance out.",
    ],
    operands: [
      { name: "create|list|revoke", required: true, operand: "text" },
      { name: "NAME", required: false, repeat: true, operand: "text" },
    ],
    flags: [
      { name: "service-account", value: "NAME", help: "create: whom the holder joins as (required)" },
      { name: "ttl", value: "TIME", help: "create: how long it is good for, 10m to 720h (default 1h)" },
      { name: "reusable", help: "create: good for any number of instances until it expires" },
      { name: "server", value: "URL", help: "create: address to write into the kubeconfig (default: the one in use)" },
      { name: "all-namespaces", short: "A", help: "list: of all namespaces" },
    ],
    usesApi: true,
    outputs: ["text", "token", "json", "yaml"],
    examples: [
      {
        says: "let one instance of reviews join from another machine",
        command: "weft token create --service-account reviews -n shop > join.kubeconfig",
      },
      {
        says: "for a group of machines that grows by itself",
        command: "weft token create --service-account reviews -n shop --reusable --ttl 168h > join.kubeconfig",
      },
      { says: "what is out there", command: "weft token list -A" },
      { says: "make one worthless", command: "weft token revoke reviews-x7k2p -n shop" },
    ],
  },
  {
    name: "shift",
    summary: "move traffic to a new version in steps, and back when it does worse",
    about: [
      "SERVICE has an HTTPRoute with both versions among the backends of a rule. The control plane gives the new one --by more every --every, as long as it fails no more often than --until-error-rate (or than the old one, where that fails more), and as few of its requests are slow. When there is evidence of the contrary everything goes back to where it began, at once. It needs enough requests to judge, and waits for them.",
      "The command tells each step and ends with status 0 when the new version has its traffic, 1 when it was taken back. It may be ended: the control plane goes on, also after a restart. Each step is an event (weft describe shift NAME) and stands in weft history.",
    ],
    operands: [{ name: "SERVICE", required: true, operand: "service" }],
    flags: [
      { name: "to", value: "VERSION", help: "backend that gets the traffic: v2 (for SERVICE-v2) or the name of a Service (required)" },
      { name: "from", value: "VERSION", help: "backend that loses it, where the rule has more than one other" },
      { name: "by", value: "PERCENT", help: "each step (default 10%)" },
      { name: "every", value: "TIME", help: "time between steps, 2s to 24h (default 1m)" },
      { name: "target", value: "PERCENT", help: "where it ends (default 100%)" },
      { name: "until-error-rate", value: "PERCENT", help: "share of failed requests that takes it back (default 1%)" },
      {
        name: "until-latency",
        value: "FACTOR",
        help: "slow is so many times the old version's 90th percentile; 0: latency is not judged (default 1.5)",
      },
      { name: "min-requests", value: "N", help: "requests the new version must have answered before each step (default 30)" },
      { name: "route", value: "NAME", help: "HTTPRoute, where several are attached to SERVICE" },
      { name: "no-wait", help: "do not watch" },
      { name: "pause", help: "hold the shift of SERVICE that is under way" },
      { name: "resume", help: "let it go on" },
    ],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "reviews to v2, a tenth more each minute", command: "weft shift reviews --to v2 --by 10% --every 1m --until-error-rate 1%" },
      { says: "hold it for now", command: "weft shift reviews --pause" },
    ],
  },
  {
    name: "user",
    summary: "give people and programs credentials for the API, list and revoke them",
    about: [
      "create prints a kubeconfig with a token of a new user. A new user may look at what there is, and nothing else, until a RoleBinding or ClusterRoleBinding names the user or one of the groups: kubectl create rolebinding shop-team --clusterrole edit --group shop-team -n shop, or files.",
      "revoke deletes users, which makes every token of theirs worthless at once; bindings that name them stay. Further tokens of a user: weft kubeconfig --user NAME.",
    ],
    operands: [
      { name: "create|list|revoke", required: true, operand: "text" },
      { name: "NAME", required: false, repeat: true, operand: "text" },
    ],
    flags: [
      { name: "group", value: "GROUP", repeat: true, help: "create: a group that bindings may name; may be given several times" },
      { name: "ttl", value: "TIME", help: "create: how long the token is good for, 10m to 366d (default 30d)" },
      { name: "server", value: "URL", help: "create: address to write into the kubeconfig (default: the one in use)" },
    ],
    usesApi: true,
    outputs: ["text", "token", "json", "yaml"],
    examples: [
      { says: "a colleague who may change namespace shop", command: "weft user create alice --group shop-team > alice.kubeconfig" },
      { says: "a pipeline, for three months", command: "weft user create ci --ttl 90d -o token > ci.token" },
      { says: "who there is", command: "weft user list" },
      { says: "make all tokens of one worthless", command: "weft user revoke alice" },
    ],
  },
  {
    name: "check",
    summary: "look for what is wrong with this installation, with the fix of each",
    about: [
      "The control plane and its certificates, clocks, the data folder where it is on this machine, proxies that are lost, behind or reject something, versions, services without instances, references that lead nowhere, policies without effect.",
      "The exit status is 1 when something is wrong, 0 with warnings alone.",
    ],
    operands: [],
    flags: [{ name: "data", value: "DIR", operand: "folder", help: "data folder to look at (default: the kubeconfig's, when it is one)" }],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "look", command: "weft check" },
      { says: "from a monitor", command: "weft check -o json" },
    ],
  },
  {
    name: "bug-report",
    summary: "gather what somebody needs to find a fault, without secrets, into one file",
    about: [
      "A tar.gz with versions, the result of weft check, all objects (no tokens or keys; annotations that kubectl keeps copies in are left out), proxies and their rejections, metrics, and the last lines of the log. Look into it before you give it away: names and addresses are in it.",
    ],
    operands: [{ name: "FILE", required: true, operand: "file" }],
    flags: [],
    usesApi: true,
    examples: [{ says: "for a report", command: "weft bug-report weft-report.tar.gz" }],
  },
  {
    name: "status",
    summary: "show each proxy: connected, versions accepted, last rejection and why",
    about: [
      "One line a proxy: the version of each type of resource it has accepted, and whether it is in step with the control plane. A rejection is shown in full below.",
    ],
    operands: [{ name: "PROXY", required: false, operand: "text" }],
    flags: [
      { name: "all-namespaces", short: "A", help: "in all namespaces (the default without -n)" },
      { name: "check", help: "exit with status 1 when a proxy is not connected, not in step or has rejected something" },
      { name: "wait", value: "TIME", help: "with --check: how long to wait for proxies to come into step (default: not at all)" },
    ],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "the whole mesh", command: "weft status" },
      { says: "in a script, after a change", command: "weft apply -f routes.yaml && weft status --check --wait 5s" },
    ],
  },
  {
    name: "top",
    summary: "show live traffic, busiest edge first",
    about: [
      "Who calls whom: requests a second, success, median and 99th percentile, mutual TLS. Refreshes each second on a terminal; q or Ctrl-C ends it.",
    ],
    operands: [],
    flags: [
      { name: "all-namespaces", short: "A", help: "in all namespaces (the default without -n)" },
      { name: "once", help: "print once and end (the default when stdout is no terminal)" },
      { name: "window", value: "TIME", help: "the time to look back, 1s to 5m (default 10s)" },
      { name: "sort", value: "BY", choices: ["rate", "errors", "p50", "p99", "name"], help: "rate (default), errors, p50, p99 or name" },
    ],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [
      { says: "watch the mesh", command: "weft top" },
      { says: "for a program", command: "weft top --once -o json" },
    ],
  },
  {
    name: "logs",
    summary: "show requests that failed and what the mesh did",
    about: [
      "Sidecars report requests that end in a server error or were cut short, all requests where Telemetry asks for them; the control plane adds its own events.",
      "APP keeps to one application, as caller or called.",
    ],
    operands: [{ name: "APP", required: false, operand: "app" }],
    flags: [
      { name: "follow", short: "f", help: "go on and print lines as they come" },
      { name: "all-namespaces", short: "A", help: "of all namespaces (the default without -n)" },
    ],
    usesApi: true,
    outputs: ["text", "json"],
    examples: [
      { says: "follow everything", command: "weft logs -f" },
      { says: "failures around reviews, as JSON lines", command: "weft logs reviews -n shop -o json" },
    ],
  },
  {
    name: "kubeconfig",
    summary: "print a kubeconfig, for kubectl or for weft run on another machine",
    about: [
      "Without --service-account and --user: the one in use. With --service-account: a join credential that is good for weft run as that service account. With --user: a new token of a user that is there (weft user create).",
    ],
    operands: [],
    flags: [
      { name: "service-account", value: "NAME", help: "make a join credential for this service account" },
      { name: "user", value: "NAME", help: "make a token of this user" },
      {
        name: "ttl",
        value: "TIME",
        help: "how long the credential is good for: join 10m to 24h (default 1h), user 10m to 366d (default 30d)",
      },
      { name: "server", value: "URL", help: "address to write into it, when the other machine sees another (default: the one in use)" },
    ],
    usesApi: true,
    examples: [
      { says: "use kubectl", command: "weft kubeconfig > weft.kubeconfig && kubectl --kubeconfig weft.kubeconfig get services -A" },
      {
        says: "let another machine join as reviews",
        command: "weft kubeconfig --service-account reviews -n shop --ttl 2h > join.kubeconfig",
      },
    ],
  },
  {
    name: "version",
    summary: "print the version of weft and of the control plane",
    about: [],
    operands: [],
    flags: [{ name: "client", help: "do not ask the control plane" }],
    usesApi: true,
    outputs: ["text", "json", "yaml"],
    examples: [{ says: "both versions", command: "weft version" }],
  },
  {
    name: "completion",
    summary: "print a script that completes verbs, flags, kinds and names",
    about: ["Names of kinds and objects are asked of the control plane as you type."],
    operands: [{ name: "bash|zsh|fish", required: true, operand: "shell" }],
    flags: [],
    usesApi: false,
    examples: [
      { says: "bash, for this shell", command: "source <(weft completion bash)" },
      { says: "zsh", command: "source <(weft completion zsh)" },
      { says: "fish, for good", command: "weft completion fish > ~/.config/fish/completions/weft.fish" },
    ],
  },
  {
    name: "help",
    summary: "explain weft, or one verb",
    about: [],
    operands: [{ name: "VERB", required: false, operand: "verb" }],
    flags: [],
    usesApi: false,
    examples: [{ says: "help on weft run", command: "weft help run" }],
  },
];

export function verbNamed(name: string): VerbSpec | undefined {
  return verbs.find((v) => v.name === name);
}
