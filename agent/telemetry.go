package agent

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/go-metrics/datadog"
	metricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"

	"lictor/agent/config"
)

// In-memory metrics: an interval, and how long intervals are kept
// (limits-and-defaults.md, section 13).
const (
	metricsInterval  = 10 * time.Second
	metricsRetention = time.Minute
)

// telemetry is where this agent's metrics go.
type telemetry struct {
	memory *metrics.InmemSink
	prom   *prometheus.Registry // nil while prometheus_retention_time is 0
	sinks  metrics.FanoutSink
}

// newTelemetry opens the sinks and makes them the process's metrics: the
// libraries below report to the global ones.
func newTelemetry(cfg config.Telemetry) (*telemetry, error) {
	t := &telemetry{memory: metrics.NewInmemSink(metricsInterval, metricsRetention)}
	t.sinks = metrics.FanoutSink{t.memory}
	add := func(key, addr string, open func(string) (metrics.MetricSink, error)) error {
		if addr == "" {
			return nil
		}
		s, err := open(addr)
		if err != nil {
			return fmt.Errorf("telemetry.%s: %w", key, err)
		}
		t.sinks = append(t.sinks, s)
		return nil
	}
	if err := add("statsd_address", cfg.StatsdAddr, func(a string) (metrics.MetricSink, error) {
		return metrics.NewStatsdSink(a)
	}); err != nil {
		return nil, err
	}
	if err := add("statsite_address", cfg.StatsiteAddr, func(a string) (metrics.MetricSink, error) {
		return metrics.NewStatsiteSink(a)
	}); err != nil {
		return nil, err
	}
	if err := add("dogstatsd_addr", cfg.DogstatsdAddr, func(a string) (metrics.MetricSink, error) {
		s, err := datadog.NewDogStatsdSink(a, "")
		if err == nil {
			s.SetTags(cfg.DogstatsdTags)
		}
		return s, err
	}); err != nil {
		return nil, err
	}
	if cfg.PrometheusRetention > 0 {
		t.prom = prometheus.NewRegistry()
		s, err := metricsprom.NewPrometheusSinkFrom(metricsprom.PrometheusOpts{
			Expiration: cfg.PrometheusRetention,
			Registerer: t.prom,
		})
		if err != nil {
			return nil, fmt.Errorf("telemetry.prometheus_retention_time: %w", err)
		}
		t.sinks = append(t.sinks, s)
	}

	mc := metrics.DefaultConfig(cfg.Prefix)
	mc.EnableHostname = !cfg.DisableHostname
	mc.FilterDefault = cfg.FilterDefault
	mc.AllowedPrefixes, mc.BlockedPrefixes = cfg.AllowedPrefixes, cfg.BlockedPrefixes
	if _, err := metrics.NewGlobal(mc, t.sinks); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return t, nil
}

// gatherer is nil while Prometheus is off: an interface that holds a nil
// registry would not be.
func (t *telemetry) gatherer() prometheus.Gatherer {
	if t.prom == nil {
		return nil
	}
	return t.prom
}

// reload takes over the prefix filter, which is all of telemetry that can
// change while the agent runs.
func (t *telemetry) reload(cfg config.Telemetry) {
	metrics.UpdateFilter(cfg.AllowedPrefixes, cfg.BlockedPrefixes)
}
