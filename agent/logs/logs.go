// Package logs is the agent's log: one hclog logger that writes to the standard
// output, a rotated file and syslog as configured, and to any number of
// monitors, each with a level of its own and a bounded queue. A monitor that
// does not keep up loses lines, which are counted; it never blocks the agent.
package logs

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// streamBuffer is how many lines a monitor may lag behind
// (limits-and-defaults.md, section 6).
const streamBuffer = 512

// timeFormat is UTC with milliseconds, as the family prints it.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Log is the agent's logger and the monitors that listen to it. It is safe for
// concurrent use.
type Log struct {
	hclog.InterceptLogger
	closers []io.Closer
}

// Options say where lines go besides the monitors.
type Options struct {
	Level  string // as in ParseLevel
	JSON   bool
	Output io.Writer   // usually the standard output
	Extra  []io.Writer // the log file and syslog; closed by Close where they are io.Closers
}

// ParseLevel reads a log level name, in any case. The error's text is the one
// that the HTTP API answers with.
func ParseLevel(name string) (hclog.Level, error) {
	switch strings.ToUpper(name) {
	case "WARNING":
		return hclog.Warn, nil
	case "ERR":
		return hclog.Error, nil
	case "TRACE", "DEBUG", "INFO", "WARN", "ERROR":
		return hclog.LevelFromString(name), nil
	}
	return hclog.NoLevel, fmt.Errorf("Unknown log level: %.32s", name)
}

// New makes the agent's logger. The caller closes it after everything that logs
// has stopped.
func New(o Options) (*Log, error) {
	level, err := ParseLevel(o.Level)
	if err != nil {
		return nil, err
	}
	l := &Log{}
	outs := append([]io.Writer{o.Output}, o.Extra...)
	for _, w := range o.Extra {
		if c, ok := w.(io.Closer); ok {
			l.closers = append(l.closers, c)
		}
	}
	l.InterceptLogger = hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name:       "agent",
		Level:      level,
		Output:     io.MultiWriter(outs...),
		JSONFormat: o.JSON,
		TimeFormat: timeFormat,
		TimeFn:     utcNow,
	})
	return l, nil
}

// Close closes the log file and the syslog connection.
func (l *Log) Close() error {
	var first error
	for _, c := range l.closers {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Stream is one monitor. C is closed by Close.
type Stream struct {
	C <-chan string // lines without their newline

	w    *streamWriter
	stop func()
}

// Dropped is how many lines were lost because C was not read fast enough.
func (s *Stream) Dropped() uint64 { return s.w.dropped.Load() }

// Close ends the stream. It may be called more than once.
func (s *Stream) Close() { s.stop() }

// Monitor starts a stream of all lines at level and above. The caller closes it.
func (l *Log) Monitor(level string, json bool) (*Stream, error) {
	lv, err := ParseLevel(level)
	if err != nil {
		return nil, err
	}
	w := &streamWriter{ch: make(chan string, streamBuffer)}
	sink := hclog.NewSinkAdapter(&hclog.LoggerOptions{
		Level:      lv,
		Output:     w,
		JSONFormat: json,
		TimeFormat: timeFormat,
		TimeFn:     utcNow,
	})
	l.RegisterSink(sink)
	return &Stream{C: w.ch, w: w, stop: sync.OnceFunc(func() {
		l.DeregisterSink(sink)
		w.close()
	})}, nil
}

func utcNow() time.Time { return time.Now().UTC() }

// streamWriter cuts what a sink writes into lines and queues them.
type streamWriter struct {
	dropped atomic.Uint64

	mu     sync.Mutex // guards closed, and ch against a send after its close
	closed bool
	ch     chan string
}

func (w *streamWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(p), nil
	}
	select {
	case w.ch <- string(bytes.TrimRight(p, "\n")):
	default:
		w.dropped.Add(1)
	}
	return len(p), nil
}

func (w *streamWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.ch)
	}
}
