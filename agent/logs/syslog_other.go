//go:build windows || plan9

package logs

import (
	"errors"
	"io"
)

// OpenSyslog reports that this system has no syslog.
func OpenSyslog(string) (io.WriteCloser, error) {
	return nil, errors.New("enable_syslog: there is no syslog on this system")
}
