package httpapi

import (
	"net/http"

	"lictor/agent/answers"
	"lictor/agent/checks"
	"lictor/agent/decode"
	"lictor/rpc/wire"
)

const (
	checkDeregisterPath = "/v1/agent/check/deregister/"
	checkPassPath       = "/v1/agent/check/pass/"
	checkWarnPath       = "/v1/agent/check/warn/"
	checkFailPath       = "/v1/agent/check/fail/"
	checkUpdatePath     = "/v1/agent/check/update/"
)

const missingCheck = "Missing check ID"

func (a *API) agentChecks(w http.ResponseWriter, r *request) error {
	filter, err := filterOf[wire.HealthCheck](r)
	if err != nil {
		return err
	}
	out := map[string]*wire.HealthCheck{}
	for id, c := range a.cfg.Backend.Registry().Checks() {
		ok, err := filter.match(c)
		if err != nil {
			return err
		}
		if ok {
			out[id] = c
		}
	}
	a.writeAppended(w, r, func(b []byte) []byte { return answers.AppendMap(b, out, `{}`, answers.AppendCheck) })
	return nil
}

func (a *API) checkRegister(w http.ResponseWriter, r *request) error {
	raw, err := readObject(w, r)
	if err != nil {
		return err
	}
	def, err := checks.Parse(raw)
	if err != nil {
		return decodeFailed(err)
	}
	def.Source = checks.SourceRemote
	if def.Token == "" {
		def.Token = r.token()
	}
	return empty(w, localError(a.cfg.Backend.Registry().RegisterCheck(def)))
}

func (a *API) checkDeregister(w http.ResponseWriter, r *request) error {
	id, err := r.name(checkDeregisterPath, missingCheck)
	if err != nil {
		return err
	}
	return empty(w, localError(a.cfg.Backend.Registry().DeregisterCheck(id)))
}

// checkTTL makes the handler that reports one status for a TTL check.
func (a *API) checkTTL(path, status string) handler {
	return func(w http.ResponseWriter, r *request) error {
		id, err := r.name(path, missingCheck)
		if err != nil {
			return err
		}
		return empty(w, localError(a.cfg.Backend.Registry().UpdateTTL(id, status, r.q.get("note"))))
	}
}

func (a *API) checkUpdate(w http.ResponseWriter, r *request) error {
	id, err := r.name(checkUpdatePath, missingCheck)
	if err != nil {
		return err
	}
	var status, output string
	if err := decodeFields(w, r, decode.Fields{"status": &status, "output": &output}); err != nil {
		return err
	}
	if !checks.ValidStatus(status) {
		return failure(http.StatusBadRequest, "Invalid check status: '%.100s'", status)
	}
	return empty(w, localError(a.cfg.Backend.Registry().UpdateTTL(id, status, output)))
}
