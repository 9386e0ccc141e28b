package httpapi

import (
	"encoding/json"
	"net/http"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"
)

// agentHost shows the machine. What could not be found out is listed under
// Errors, and the rest is shown all the same.
func (a *API) agentHost(w http.ResponseWriter, r *request) error {
	info := struct {
		Memory         *mem.VirtualMemoryStat
		CPU            []cpu.InfoStat
		Host           *host.InfoStat
		Disk           *disk.UsageStat
		CollectionTime int64
		Errors         []string
	}{CollectionTime: time.Now().UnixNano()}
	ctx := r.Context()
	note := func(err error) {
		if err != nil {
			info.Errors = append(info.Errors, err.Error())
		}
	}
	var err error
	info.Memory, err = mem.VirtualMemoryWithContext(ctx)
	note(err)
	info.CPU, err = cpu.InfoWithContext(ctx)
	note(err)
	info.Host, err = host.InfoWithContext(ctx)
	note(err)
	root := "/"
	if runtime.GOOS == "windows" {
		root = `C:\`
	}
	info.Disk, err = disk.UsageWithContext(ctx, root)
	note(err)
	a.writeJSON(w, r, info)
	return nil
}

// flushEncoder sends each value as soon as it is encoded.
type flushEncoder struct {
	a  *API
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Encode implements the encoder that the metrics sink streams to.
func (e *flushEncoder) Encode(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := e.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return e.rc.Flush()
}
