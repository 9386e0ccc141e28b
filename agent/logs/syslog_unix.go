//go:build !windows && !plan9

package logs

import (
	"fmt"
	"io"
	"log/syslog"
	"strings"
)

var facilities = map[string]syslog.Priority{
	"KERN": syslog.LOG_KERN, "USER": syslog.LOG_USER, "MAIL": syslog.LOG_MAIL, "DAEMON": syslog.LOG_DAEMON,
	"AUTH": syslog.LOG_AUTH, "SYSLOG": syslog.LOG_SYSLOG, "LPR": syslog.LOG_LPR, "NEWS": syslog.LOG_NEWS,
	"UUCP": syslog.LOG_UUCP, "CRON": syslog.LOG_CRON, "AUTHPRIV": syslog.LOG_AUTHPRIV, "FTP": syslog.LOG_FTP,
	"LOCAL0": syslog.LOG_LOCAL0, "LOCAL1": syslog.LOG_LOCAL1, "LOCAL2": syslog.LOG_LOCAL2, "LOCAL3": syslog.LOG_LOCAL3,
	"LOCAL4": syslog.LOG_LOCAL4, "LOCAL5": syslog.LOG_LOCAL5, "LOCAL6": syslog.LOG_LOCAL6, "LOCAL7": syslog.LOG_LOCAL7,
}

// OpenSyslog connects to the local syslog daemon. The caller closes it.
func OpenSyslog(facility string) (io.WriteCloser, error) {
	p, ok := facilities[strings.ToUpper(facility)]
	if !ok {
		return nil, fmt.Errorf("syslog_facility: unknown facility %.32q", facility)
	}
	w, err := syslog.New(p|syslog.LOG_NOTICE, "lictor")
	if err != nil {
		return nil, fmt.Errorf("enable_syslog: %w", err)
	}
	return levelWriter{w}, nil
}

// levelWriter gives each line the severity that its text names.
type levelWriter struct{ w *syslog.Writer }

func (l levelWriter) Write(p []byte) (int, error) {
	line := string(p)
	var err error
	switch {
	case strings.Contains(line, "[ERROR]"):
		err = l.w.Err(line)
	case strings.Contains(line, "[WARN]"):
		err = l.w.Warning(line)
	case strings.Contains(line, "[DEBUG]"), strings.Contains(line, "[TRACE]"):
		err = l.w.Debug(line)
	default:
		err = l.w.Info(line)
	}
	return len(p), err
}

func (l levelWriter) Close() error { return l.w.Close() }
