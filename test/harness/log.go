package harness

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Log is what an agent has written to its standard output and error, over all
// its starts. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex // guards buf
	buf strings.Builder
}

// Write appends; it never fails.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// String is everything so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Mark is a place in the log: only what is written after it counts for Since.
func (l *Log) Mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Len()
}

// Since is what was written after mark.
func (l *Log) Since(mark int) string { return l.String()[mark:] }

// Wait waits for a line after mark that matches expr and returns it.
func (l *Log) Wait(mark int, expr string) (string, error) {
	re, err := regexp.Compile("(?m)^.*(?:" + expr + ").*$")
	if err != nil {
		return "", err
	}
	var line string
	err = Poll(fmt.Sprintf("a log line like %q", expr), func() error {
		if line = re.FindString(l.Since(mark)); line == "" {
			return fmt.Errorf("there is none")
		}
		return nil
	})
	return line, err
}

func (l *Log) tail(lines int) string {
	all := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
