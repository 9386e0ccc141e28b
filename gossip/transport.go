package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// Bounds on incoming streams. A stream lasts for one exchange, which memberlist
// gives 10 s; these are far above what a pool of thousands needs.
const (
	maxStreams       = 1024
	maxStreamsPerIP  = 128
	transportRetries = 10
)

// transport stands between memberlist and the network. It sees every stream
// before memberlist reads from it: that is where strangers are bounded and
// where the allowed networks are enforced.
type transport struct {
	*memberlist.NetTransport
	log     hclog.Logger
	allowed []netip.Prefix
	limit   *limiter

	streams chan net.Conn
	packets chan *memberlist.Packet // nil: the inner transport's are used as they are
	stop    chan struct{}
	once    sync.Once
	loops   sync.WaitGroup

	mu   sync.Mutex // guards open
	open map[netip.Addr]int
	all  int
}

func newTransport(ctx context.Context, cfg Config, log hclog.Logger) (*transport, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{cfg.Bind.Addr().String()},
		BindPort:  int(cfg.Bind.Port()),
		Logger:    newLogger(log, func() string { return "" }),
	})
	if err != nil {
		return nil, fmt.Errorf("gossip: bind %s: %w", cfg.Bind, err)
	}
	t := &transport{
		NetTransport: inner, log: log, allowed: cfg.Allowed, limit: newLimiter(),
		streams: make(chan net.Conn), stop: make(chan struct{}), open: map[netip.Addr]int{},
	}
	t.loops.Go(t.acceptStreams)
	if len(cfg.Allowed) > 0 {
		t.packets = make(chan *memberlist.Packet)
		t.loops.Go(t.filterPackets)
	}
	return t, nil
}

// FinalAdvertiseAddr implements memberlist.Transport: the address that the
// configuration resolved, with the port that was bound.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if port == 0 {
		port = t.GetAutoBindPort()
	}
	return t.NetTransport.FinalAdvertiseAddr(ip, port)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet {
	if t.packets != nil {
		return t.packets
	}
	return t.NetTransport.PacketCh()
}

// Shutdown implements memberlist.Transport. It returns when nothing of the
// transport runs any more; streams that are being served end by their deadline.
func (t *transport) Shutdown() error {
	t.once.Do(func() { close(t.stop) })
	// The inner loops may be blocked on handing over what nobody takes now.
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		t.loops.Wait()
		for {
			select {
			case c := <-t.NetTransport.StreamCh():
				c.Close()
			case <-t.NetTransport.PacketCh():
			case drained <- struct{}{}:
				return
			}
		}
	}()
	err := t.NetTransport.Shutdown()
	<-drained
	return err
}

func (t *transport) permits(addr netip.Addr) bool {
	if len(t.allowed) == 0 {
		return true
	}
	for _, p := range t.allowed {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func (t *transport) acceptStreams() {
	for {
		select {
		case <-t.stop:
			return
		case c := <-t.NetTransport.StreamCh():
			counted, reason := t.admit(c)
			if reason != "" {
				c.Close()
				if t.limit.ok(reason, c.RemoteAddr()) {
					t.log.Warn("gossip stream refused", "peer", c.RemoteAddr(), "reason", reason)
				}
				continue
			}
			select {
			case t.streams <- counted:
			case <-t.stop:
				counted.Close()
				return
			}
		}
	}
}

func (t *transport) filterPackets() {
	for {
		select {
		case <-t.stop:
			return
		case pkt := <-t.NetTransport.PacketCh():
			if !t.permits(addrOf(pkt.From)) {
				if t.limit.ok("cidr", pkt.From) {
					t.log.Warn("gossip packet refused", "peer", pkt.From, "reason", "its address is not in serf_lan_allowed_cidrs / serf_wan_allowed_cidrs")
				}
				continue
			}
			select {
			case t.packets <- pkt:
			case <-t.stop:
				return
			}
		}
	}
}

func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// admit counts a stream in, or says why it is refused.
func (t *transport) admit(c net.Conn) (net.Conn, string) {
	addr := addrOf(c.RemoteAddr())
	if !t.permits(addr) {
		return nil, "its address is not in serf_lan_allowed_cidrs / serf_wan_allowed_cidrs"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.all >= maxStreams:
		return nil, "too many gossip streams are open"
	case t.open[addr] >= maxStreamsPerIP:
		return nil, "too many gossip streams from this address are open"
	}
	t.all++
	t.open[addr]++
	return &countedConn{Conn: c, done: sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
		if t.open[addr]--; t.open[addr] == 0 {
			delete(t.open, addr)
		}
	})}, ""
}

// countedConn is a stream that is counted out when it closes.
type countedConn struct {
	net.Conn
	done func()
}

func (c *countedConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}
