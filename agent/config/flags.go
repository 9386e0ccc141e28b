package config

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
)

// Flags is what the command line of the agent said. The zero value is an
// empty command line. Register it, parse, then hand it to Load; it must not be
// registered twice.
type Flags struct {
	// Paths are the -config-file and -config-dir arguments in the order they
	// were given.
	Paths []string
	// Format is -config-format: "", "json" or "hcl".
	Format string
	// Dev is -dev.
	Dev bool
	// HCL are the -hcl fragments in order.
	HCL []string

	set []setting // the flags that stand for a key
}

// setting is one flag as it was given.
type setting struct {
	key   string
	value *node
}

// flagKeys are the flags that stand for a key.
var flagKeys = []struct{ name, key, usage string }{
	{"advertise", "advertise_addr", "the `address` to tell the cluster"},
	{"advertise-wan", "advertise_addr_wan", "the `address` to tell other datacenters"},
	{"allow-write-http-from", "http_config.allow_write_http_from", "only this `CIDR` may write through the API; repeatable"},
	{"alt-domain", "alt_domain", "a second DNS `domain`"},
	{"auto-reload-config", "auto_reload_config", "reload when a configuration file changes"},
	{"bind", "bind_addr", "the `address` for cluster traffic"},
	{"bootstrap", "bootstrap", "elect this server leader alone"},
	{"bootstrap-expect", "bootstrap_expect", "the `number` of servers to wait for"},
	{"check_output_max_size", "check_output_max_size", "the most `bytes` to keep of a check's output"},
	{"client", "client_addr", "the `address` for the API, DNS and local RPC"},
	{"data-dir", "data_dir", "the `directory` for what must survive a restart"},
	{"datacenter", "datacenter", "the `name` of the datacenter"},
	{"default-query-time", "default_query_time", "the default `duration` of a blocking query"},
	{"disable-host-node-id", "disable_host_node_id", "make a random node id rather than one from the host"},
	{"disable-keyring-file", "disable_keyring_file", "keep the gossip keyring in memory only"},
	{"dns-port", "ports.dns", "the DNS `port`; -1 is off"},
	{"domain", "domain", "the DNS `domain` and the suffix of certificate names"},
	{"enable-local-script-checks", "enable_local_script_checks", "allow script checks from configuration files"},
	{"enable-script-checks", "enable_script_checks", "allow script checks"},
	{"encrypt", "encrypt", "the gossip `key` in base64; a file keeps it out of the process list"},
	{"encrypt-allow-plaintext", "encrypt_allow_plaintext", "start without a gossip key although this node had one"},
	{"grpc-port", "ports.grpc", "any `port`; accepted, without effect"},
	{"grpc-tls-port", "ports.grpc_tls", "any `port`; accepted, without effect"},
	{"http-port", "ports.http", "the HTTP API `port`; -1 is off"},
	{"https-port", "ports.https", "the HTTPS API `port`; -1 is off"},
	{"join", "start_join", "an `address` to join; deprecated, use -retry-join; repeatable"},
	{"join-wan", "start_join_wan", "an `address` of the WAN to join; deprecated, use -retry-join-wan; repeatable"},
	{"log-file", "log_file", "also log to this `file`"},
	{"log-json", "log_json", "log as JSON"},
	{"log-level", "log_level", "`level` of the log: trace, debug, info, warn, error"},
	{"log-rotate-bytes", "log_rotate_bytes", "start a new log file after this many `bytes`"},
	{"log-rotate-duration", "log_rotate_duration", "start a new log file after this `duration`"},
	{"log-rotate-max-files", "log_rotate_max_files", "the `number` of old log files to keep; 0 all, -1 none"},
	{"max-query-time", "max_query_time", "the longest `duration` of a blocking query"},
	{"node", "node_name", "the `name` of this node"},
	{"node-id", "node_id", "the `uuid` of this node"},
	{"node-meta", "node_meta", "`key:value` to publish with this node; repeatable"},
	{"non-voting-server", "non_voting_server", "accepted, without effect"},
	{"pid-file", "pid_file", "write the process id to this `file`"},
	{"primary-gateway", "primary_gateways", "any `address`; accepted, without effect; repeatable"},
	{"protocol", "protocol", "the protocol `version`"},
	{"raft-protocol", "raft_protocol", "the Raft protocol `version`"},
	{"read-replica", "read_replica", "accepted, without effect"},
	{"recursor", "recursors", "the `address` of an upstream DNS server; repeatable"},
	{"rejoin", "rejoin_after_leave", "join the last known members even after a leave"},
	{"retry-interval", "retry_interval", "the `duration` between attempts to join"},
	{"retry-interval-wan", "retry_interval_wan", "the `duration` between attempts to join the WAN"},
	{"retry-join", "retry_join", "an `address` to join, tried until it works; repeatable"},
	{"retry-join-wan", "retry_join_wan", "an `address` of the WAN to join, tried until it works; repeatable"},
	{"retry-max", "retry_max", "exit after this `number` of failed attempts to join; 0 is never"},
	{"retry-max-wan", "retry_max_wan", "exit after this `number` of failed attempts to join the WAN; 0 is never"},
	{"rpc-port", "ports.rpc", "the `port` of the local RPC; -1 is off"},
	{"segment", "segment", "the `name` of a network segment; not supported"},
	{"serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", "only this `CIDR` may gossip; repeatable"},
	{"serf-lan-bind", "serf_lan", "the `address` for LAN gossip"},
	{"serf-lan-port", "ports.serf_lan", "the LAN gossip `port`"},
	{"serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", "only this `CIDR` may gossip over the WAN; repeatable"},
	{"serf-wan-bind", "serf_wan", "the `address` for WAN gossip"},
	{"serf-wan-port", "ports.serf_wan", "the WAN gossip `port`; -1 is off"},
	{"server", "server", "be a server"},
	{"server-port", "ports.server", "the RPC `port` of servers"},
	{"syslog", "enable_syslog", "also log to syslog"},
	{"ui", "ui", "accepted, without effect"},
	{"ui-content-path", "ui_content_path", "any `path`; accepted, without effect"},
	{"ui-dir", "ui_dir", "any `directory`; accepted, without effect"},
}

// Register defines every flag of the agent on fs. The errors of the flags
// themselves never repeat a value that may be secret: what a key wants is
// checked by Load.
func (f *Flags) Register(fs *flag.FlagSet) {
	path := func(v string) error {
		if v == "" {
			return fmt.Errorf("a path is needed")
		}
		f.Paths = append(f.Paths, v)
		return nil
	}
	fs.Func("config-file", "a configuration `file`; repeatable", path)
	fs.Func("config-dir", "a `directory` of configuration files; repeatable", path)
	fs.StringVar(&f.Format, "config-format", "", "read every configuration file as this `format`: hcl or json")
	fs.BoolVar(&f.Dev, "dev", false, "a server of its own, encrypted, that writes nothing to disk")
	fs.Func("hcl", "a `fragment` of configuration that comes after everything else; repeatable", func(v string) error {
		f.HCL = append(f.HCL, v)
		return nil
	})
	for _, fk := range flagKeys {
		known := schema().lookup(fk.key)
		add := func(n *node) {
			n.at = place{file: "flag -" + fk.name}
			f.set = append(f.set, setting{fk.key, n})
		}
		switch known.kind {
		case kindBool:
			fs.BoolFunc(fk.name, fk.usage, func(v string) error {
				b, err := strconv.ParseBool(v)
				if err != nil {
					return fmt.Errorf("true or false is needed")
				}
				add(&node{kind: boolNode, b: b})
				return nil
			})
		case kindInt:
			fs.Func(fk.name, fk.usage, func(v string) error {
				i, err := strconv.ParseInt(v, 10, 32)
				if err != nil {
					return fmt.Errorf("a whole number is needed")
				}
				add(&node{kind: intNode, i: i, f: float64(i)})
				return nil
			})
		case kindList:
			fs.Func(fk.name, fk.usage, func(v string) error {
				at := place{file: "flag -" + fk.name}
				add(&node{kind: listNode, list: []*node{{kind: stringNode, str: v, at: at}}})
				return nil
			})
		case kindMap:
			fs.Func(fk.name, fk.usage, func(v string) error {
				key, value, ok := strings.Cut(v, ":")
				if !ok {
					return fmt.Errorf("key:value is needed")
				}
				n := newObject(place{})
				n.set(key, &node{kind: stringNode, str: value, at: place{file: "flag -" + fk.name}})
				add(n)
				return nil
			})
		default:
			fs.Func(fk.name, fk.usage, func(v string) error {
				add(&node{kind: stringNode, str: v})
				return nil
			})
		}
	}
}

// tree is the flags of list keys, which come before the files, or all the
// others, which come after.
func (f *Flags) tree(lists bool) *node {
	root := newObject(place{file: "flags"})
	for _, s := range f.set {
		if (s.value.kind == listNode) != lists {
			continue
		}
		one := newObject(s.value.at)
		one.put(s.key, clone(s.value))
		merge(schema(), root, one)
	}
	return root
}
