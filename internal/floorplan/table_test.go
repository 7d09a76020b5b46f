package floorplan

// modulePath is the import path of the module's root.
const modulePath = "github.com/conclave-kv/conclave"

// floor is what every package may import of ours: helpers that know nobody.
var floor = []string{"internal/durable", "internal/conclavepb", "internal/version"}

// rows is the floor plan: each package of the module, by its directory, and
// what it may import of ours besides floor. A name ending in /... stands for
// the directory and everything below it.
var rows = map[string][]string{
	// Floor 4: words on a command line become one call.
	"cmd/conclave": {"daemon", "audit", "auth", "pki", "bootstrap/discovery", "bootstrap/dnssrv", "member", "internal/logging"},

	// Floor 3: the process, and the doors for its clients.
	"daemon": {
		"api", "web", "audit", "member", "raftstore", "raftstore/fsm", "auth/token",
		"bootstrap", "bootstrap/discovery", "bootstrap/dnssrv", "pki", "pki/ledger", "internal/logging",
	},
	"api": {"member", "audit", "kv", "auth", "pki/ledger", "internal/lockpb"},
	"web": {},

	// Floor 2: one cluster member.
	"member": {"raftstore", "raftstore/fsm", "kv", "auth", "auth/token", "pki/ledger"},

	// Floor 1: the engines, which never know each other.
	"raftstore":           {},
	"raftstore/fsm":       {"kv", "auth", "pki/ledger"},
	"kv":                  {},
	"auth":                {},
	"auth/token":          {"auth"},
	"audit":               {"internal/logging"},
	"bootstrap":           {},
	"bootstrap/discovery": {"bootstrap"},
	"bootstrap/dnssrv":    {"bootstrap"},
	// The conformance suite that the tests of every Source run.
	"bootstrap/bootstraptest": {"bootstrap"},
	"pki":                     {"pki/ledger"},
	"pki/ledger":              {},

	// Floor 0: helpers that know nobody.
	"internal/conclavepb": {},
	"internal/durable":    {},
	"internal/floorplan":  {},
	"internal/lockpb":     {},
	"internal/logging":    {},
	"internal/version":    {},

	// Beside the house: nothing of the product imports these.
	"internal/testcluster": {"daemon", "pki", "internal/logging", "internal/lockpb"},
	"bench/...":            {"bench/...", "test/faultdisk"},
	"test/...":             {"internal/testcluster", "internal/lockpb", "daemon", "test/..."},
	"test/faultdisk":       {},
}

// door is the way of one third-party library into the house.
type door struct {
	library  string   // import path, and everything below it
	packages []string // who may import it; nil means nobody, anyone is everybody
	reason   string
}

// anyone in a door's packages lets every package through.
const anyone = "*"

// doors lists every third-party library the module imports directly. The
// longest matching library decides.
var doors = []door{
	{"github.com/hashicorp/raft", []string{"raftstore"}, "consensus has one keeper"},
	{"github.com/hashicorp/raft-wal", []string{"raftstore"}, "the raft log has one keeper"},
	{"github.com/hashicorp/go-hclog", []string{"raftstore"}, "raft's logger is bridged to zerolog in one place"},
	{"github.com/hashicorp/go-metrics", []string{"raftstore"}, "raft's metrics are bridged to Prometheus in one place"},
	{"go.etcd.io/bbolt", []string{"raftstore/fsm", "kv", "auth", "pki/ledger"},
		"fsm owns the state file, the others their buckets in its transactions"},
	{"github.com/miekg/dns", []string{"bootstrap/dnssrv"}, "DNS is spoken in one place"},
	{"github.com/cloudflare/cfssl", []string{"pki"}, "certificates are made in one place, where the names are decided"},
	{"github.com/urfave/cli/v2", []string{"cmd/conclave"}, "the command line ends in cmd"},
	{"google.golang.org/grpc", []string{"api", "cmd/conclave", "internal/conclavepb", "internal/lockpb", "bench/..."},
		"clients come in through api; members call each other over raftstore's sessions only"},
	{"google.golang.org/genproto", []string{"internal/lockpb"}, "messages that generated code imports"},
	{"github.com/grpc-ecosystem/grpc-gateway", []string{"api", "internal/lockpb"}, "the JSON gateway carries the verified identity, so it lives beside it"},
	{"github.com/coder/websocket", []string{"api"}, "pages speak to the JSON gateway by it"},
	{"github.com/rs/zerolog", []string{anyone}, "the logger is passed in"},
	{"github.com/rs/zerolog/log", nil, "a global logger has no owner; take a zerolog.Logger as an argument"},
	{"go.etcd.io/etcd/api/v3", []string{anyone}, "etcd's messages are the shared vocabulary"},
	{"go.etcd.io/etcd/client/v3", []string{"cmd/conclave", "bootstrap/discovery", "bench/..."},
		"the server never calls itself through a client"},
	{"go.etcd.io/etcd/client/pkg/v3", []string{"cmd/conclave", "bootstrap/discovery", "bench/..."},
		"the server never calls itself through a client"},
	{"google.golang.org/protobuf", []string{anyone}, "messages are protobuf"},
	{"github.com/prometheus/client_golang", []string{"api", "daemon", "member", "raftstore", "pki"},
		"what is agreed on has no metrics of its own; its keepers count"},
	{"github.com/prometheus/client_model", []string{"raftstore"}, "reports read what a histogram has counted"},
	{"go.yaml.in/yaml/v3", []string{"cmd/conclave"}, "configuration files end in cmd"},
	{"golang.org/x/sys", []string{"internal/durable", "raftstore", "daemon", "cmd/conclave", "bench/..."},
		"system calls stay where files, sockets and processes are"},
	{"github.com/golang-jwt/jwt/v5", []string{"auth/token"}, "signed tokens are proofs of identity"},
	{"golang.org/x/crypto", []string{"auth/token", "pki"}, "passwords and seals happen before the log"},
	{"golang.org/x/net", []string{"api"}, "HTTP/2 ends at the client port"},
	{"go.uber.org/zap", []string{"cmd/conclave", "bench/..."}, "only etcd's client wants zap"},
}

// fenced packages decide what agreed commands mean. Every member must come to
// the same result, so they see no clock, no chance and no network, and start
// no goroutine.
var fenced = []string{"kv", "auth", "pki/ledger", "raftstore/fsm"}

// outside lists what the fence keeps out: the path and everything below it,
// except what inside lists.
var (
	outside = []string{"time", "math/rand", "crypto/rand", "net"}
	inside  = []string{"net/url", "net/netip"}
)

// The limits of size, in lines. longer names the exceptions, each with the
// length it has now; it may only shrink.
const (
	maxFileLines = 500
	maxFuncLines = 70
)

var longer = map[string]int{}

// pins are versions that must not move by themselves, with the reason.
var pins = map[string]struct{ version, reason string }{
	"github.com/hashicorp/raft":     {"v1.8.0", "raftstore works around this version's behaviour; read its changes first"},
	"github.com/hashicorp/raft-wal": {"v0.4.1", "v0.4.0 loses a truncated tail, v0.4.2 does not build with raft v1.8.0"},
	"github.com/cloudflare/cfssl":   {"v1.6.5", "v1.7 wants a newer Go than go.mod names"},
}
