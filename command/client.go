package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"lictor/rpc/wire"

	"github.com/hashicorp/consul/api"
)

// agentClient is a running agent as the commands see it. Every method blocks
// until the agent has answered or ctx is done. Close ends the connection and
// must be called.
type agentClient interface {
	Members(ctx context.Context, wan bool) ([]*api.AgentMember, error)
	// Join has the agent join one address.
	Join(ctx context.Context, addr string, wan bool) error
	Leave(ctx context.Context) error
	ForceLeave(ctx context.Context, node string, prune, wan bool) error
	// Reload returns after the reload has run.
	Reload(ctx context.Context) error
	Stats(ctx context.Context) (map[string]map[string]string, error)
	// Keyring runs one operation. A failure reported by a node is an error.
	Keyring(ctx context.Context, req *wire.KeyringRequest) ([]*wire.KeyringResponse, error)
	// FireEvent returns the event's id.
	FireEvent(ctx context.Context, dc string, ev *wire.UserEvent) (string, error)
	// Monitor calls line for each log line until ctx is done (nil) or the agent
	// ends the stream (errStreamEnded).
	Monitor(ctx context.Context, level string, json bool, line func(string)) error
	io.Closer
}

// errStreamEnded is the agent closing a log stream that nobody asked it to close.
var errStreamEnded = errors.New("the agent ended the log stream")

const (
	defaultRPCAddr  = "127.0.0.1:8400"
	defaultRPCPort  = "8400"
	defaultHTTPAddr = "127.0.0.1:8500"

	// maxSecretFile bounds what is read as an auth key, a token or a gossip key.
	maxSecretFile = 64 << 10
)

// target is one agent and the way to it. HTTP nil means the local RPC.
type target struct {
	RPCAddr string
	RPCAuth string // a secret
	HTTP    *httpTarget
}

// httpTarget is an HTTP API and what it takes to be let in.
type httpTarget struct {
	Addr, Token, BasicAuth string // the last two are secrets
	Datacenter             string // that every request is for; "" is the agent's own
	SSL                    bool
	TLS                    api.TLSConfig
}

// dial reaches the agent of t.
func dial(ctx context.Context, t target) (agentClient, error) {
	if t.HTTP != nil {
		return dialHTTP(ctx, t.HTTP)
	}
	return dialRPC(ctx, t)
}

// targetFlags are the flags that say where the agent is.
type targetFlags struct {
	rpcAddr, rpcAuth, rpcAuthFile                 string
	httpAddr, token, tokenFile                    string
	caFile, caPath, clientCert, clientKey, tlsSNI string
}

// targetFlagNames maps every flag of targetFlags to whether it speaks of the
// HTTP API.
var targetFlagNames = map[string]bool{
	"rpc-addr": false, "rpc-auth": false, "rpc-auth-file": false,
	"http-addr": true, "token": true, "token-file": true, "ca-file": true, "ca-path": true,
	"client-cert": true, "client-key": true, "tls-server-name": true,
}

func isTargetFlag(name string) bool { _, ok := targetFlagNames[name]; return ok }

// registerAgent registers what chooses the local RPC or an HTTP API.
func (f *targetFlags) registerAgent(fs *flag.FlagSet) {
	fs.StringVar(&f.rpcAddr, "rpc-addr", "", "`address` of the agent's local RPC: host:port or unix:///path. Also LICTOR_RPC_ADDR or CONSUL_RPC_ADDR. The default is "+defaultRPCAddr+".")
	fs.StringVar(&f.rpcAuth, "rpc-auth", "", "auth `key` of the local RPC. Others on this machine can see it in the process list: prefer -rpc-auth-file, LICTOR_RPC_AUTH or CONSUL_RPC_AUTH.")
	fs.StringVar(&f.rpcAuthFile, "rpc-auth-file", "", "`file` that holds the auth key of the local RPC.")
	f.registerHTTP(fs, "`address` of an HTTP API to use instead of the local RPC: host:port, http://, https:// or unix://. Also LICTOR_HTTP_ADDR or CONSUL_HTTP_ADDR. Any other flag for the HTTP API, such as -token or -ca-file, chooses it too, by default at "+defaultHTTPAddr+".")
}

// registerAPI registers what says where the HTTP API is.
func (f *targetFlags) registerAPI(fs *flag.FlagSet) {
	f.registerHTTP(fs, "`address` of the HTTP API: host:port, http://, https:// or unix://. Also LICTOR_HTTP_ADDR or CONSUL_HTTP_ADDR. The default is "+defaultHTTPAddr+".")
}

func (f *targetFlags) registerHTTP(fs *flag.FlagSet, addrUsage string) {
	fs.StringVar(&f.httpAddr, "http-addr", "", addrUsage)
	fs.StringVar(&f.token, "token", "", "`token` for the HTTP API. Others on this machine can see it in the process list: prefer -token-file, LICTOR_HTTP_TOKEN or CONSUL_HTTP_TOKEN.")
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` that holds the token. Also LICTOR_HTTP_TOKEN_FILE or CONSUL_HTTP_TOKEN_FILE.")
	fs.StringVar(&f.caFile, "ca-file", "", "CA `file` that HTTPS is verified with. Also LICTOR_CACERT or CONSUL_CACERT.")
	fs.StringVar(&f.caPath, "ca-path", "", "`folder` of CA files. Also LICTOR_CAPATH or CONSUL_CAPATH.")
	fs.StringVar(&f.clientCert, "client-cert", "", "Certificate `file` to present over HTTPS. Also LICTOR_CLIENT_CERT or CONSUL_CLIENT_CERT.")
	fs.StringVar(&f.clientKey, "client-key", "", "Key `file` of -client-cert. Also LICTOR_CLIENT_KEY or CONSUL_CLIENT_KEY.")
	fs.StringVar(&f.tlsSNI, "tls-server-name", "", "`name` to expect in the server's certificate. Also LICTOR_TLS_SERVER_NAME or CONSUL_TLS_SERVER_NAME.")
}

// resolve decides between the local RPC and the HTTP API and where each is. A
// flag beats the environment, LICTOR_ beats CONSUL_; of two variables with the
// same prefix the HTTP one wins.
func (f *targetFlags) resolve(fs *flag.FlagSet, getenv func(string) string) (target, error) {
	var rpcFlag, httpFlag string
	fs.Visit(func(fl *flag.Flag) {
		if http, ok := targetFlagNames[fl.Name]; ok && http {
			httpFlag = fl.Name
		} else if ok {
			rpcFlag = fl.Name
		}
	})
	if rpcFlag != "" && httpFlag != "" {
		return target{}, fmt.Errorf("-%s is for the local RPC and -%s for the HTTP API: give flags of one kind", rpcFlag, httpFlag)
	}
	if httpFlag != "" || rpcFlag == "" && httpByEnv(getenv) {
		h, err := f.http(getenv)
		return target{HTTP: h}, err
	}
	t := target{RPCAddr: first(f.rpcAddr, env(getenv, "RPC_ADDR"), defaultRPCAddr)}
	if strings.HasPrefix(t.RPCAddr, "http://") || strings.HasPrefix(t.RPCAddr, "https://") {
		return target{}, fmt.Errorf("%s is the address of an HTTP API, not of a local RPC: use -http-addr", t.RPCAddr)
	}
	if !strings.Contains(t.RPCAddr, "://") {
		if _, _, err := net.SplitHostPort(t.RPCAddr); err != nil {
			t.RPCAddr = net.JoinHostPort(strings.Trim(t.RPCAddr, "[]"), defaultRPCPort)
		}
	}
	switch {
	case f.rpcAuth != "" && f.rpcAuthFile != "":
		return target{}, errors.New("give one of -rpc-auth and -rpc-auth-file")
	case f.rpcAuthFile != "":
		key, err := readSecret(f.rpcAuthFile)
		if err != nil {
			return target{}, fmt.Errorf("-rpc-auth-file: %w", err)
		}
		t.RPCAuth = key
	default:
		t.RPCAuth = first(f.rpcAuth, env(getenv, "RPC_AUTH"))
	}
	return t, nil
}

// httpByEnv reports whether the environment alone chooses the HTTP API.
func httpByEnv(getenv func(string) string) bool {
	for _, prefix := range envPrefixes {
		if getenv(prefix+"HTTP_ADDR") != "" {
			return true
		}
		if getenv(prefix+"RPC_ADDR") != "" {
			return false
		}
	}
	return false
}

func (f *targetFlags) http(getenv func(string) string) (*httpTarget, error) {
	h := &httpTarget{
		Addr:      first(f.httpAddr, env(getenv, "HTTP_ADDR"), defaultHTTPAddr),
		BasicAuth: env(getenv, "HTTP_AUTH"),
		TLS: api.TLSConfig{
			Address:  first(f.tlsSNI, env(getenv, "TLS_SERVER_NAME")),
			CAFile:   first(f.caFile, env(getenv, "CACERT")),
			CAPath:   first(f.caPath, env(getenv, "CAPATH")),
			CertFile: first(f.clientCert, env(getenv, "CLIENT_CERT")),
			KeyFile:  first(f.clientKey, env(getenv, "CLIENT_KEY")),
		},
	}
	var err error
	if h.SSL, err = envBool(getenv, "HTTP_SSL", false); err != nil {
		return nil, err
	}
	verify, err := envBool(getenv, "HTTP_SSL_VERIFY", true)
	if err != nil {
		return nil, err
	}
	h.TLS.InsecureSkipVerify = !verify
	// The family's order: the file of a flag, the value of a flag, then the
	// environment's file and value.
	switch file := env(getenv, "HTTP_TOKEN_FILE"); {
	case f.tokenFile != "":
		h.Token, err = readSecret(f.tokenFile)
	case f.token != "":
		h.Token = f.token
	case file != "":
		h.Token, err = readSecret(file)
	default:
		h.Token = env(getenv, "HTTP_TOKEN")
	}
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	return h, nil
}

// envPrefixes in order: ours wins over the family's.
var envPrefixes = []string{"LICTOR_", "CONSUL_"}

func env(getenv func(string) string, name string) string {
	for _, prefix := range envPrefixes {
		if v := getenv(prefix + name); v != "" {
			return v
		}
	}
	return ""
}

func envBool(getenv func(string) string, name string, def bool) (bool, error) {
	for _, prefix := range envPrefixes {
		v := getenv(prefix + name)
		if v == "" {
			continue
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			return false, fmt.Errorf("%s%s: %q is neither true nor false", prefix, name, v)
		}
		return b, nil
	}
	return def, nil
}

// first returns the first value that is not empty.
func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// readSecret reads a file that holds one secret, without the white space around
// it. An empty one is an error.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s, err := readSecretFrom(f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

func readSecretFrom(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSecretFile {
		return "", fmt.Errorf("larger than %d bytes", maxSecretFile)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", errors.New("it is empty")
	}
	return s, nil
}

// How to reach another agent, said where one could not be reached.
const (
	hintRPC  = "Is an agent running there? Choose another address with -rpc-addr or LICTOR_RPC_ADDR, or use an agent's HTTP API with -http-addr or LICTOR_HTTP_ADDR."
	hintAPI  = "Is an agent running there? Choose another address with -http-addr or LICTOR_HTTP_ADDR."
	hintHTTP = "Is an agent running there? Choose another address with -http-addr or LICTOR_HTTP_ADDR, or use the local RPC with -rpc-addr or LICTOR_RPC_ADDR."
)
