package bmc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	redfishRoot     = "/redfish/v1"
	maxRedfishBody  = 64 << 10
	shutdownGrace   = 2 * time.Second
	requestDeadline = 30 * time.Second
)

// resource is one Redfish resource: what each method does. GET is a function,
// since most bodies tell of a state; open ones need no login.
type resource struct {
	get    func() object
	patch  func(w http.ResponseWriter, r *http.Request, body []byte)
	post   func(w http.ResponseWriter, r *http.Request, body []byte)
	delete func(w http.ResponseWriter, r *http.Request)
	open   bool // GET needs no login
	login  bool // POST needs no login
}

type object = map[string]any

func (b *BMC) serveRedfish(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           b,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       requestDeadline,
		IdleTimeout:       time.Minute,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{b.cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:          slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	err := srv.ServeTLS(l, "", "")
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve Redfish: %w", err)
}

// ServeHTTP answers one Redfish request.
func (b *BMC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("OData-Version", "4.0")
	w.Header().Set("Cache-Control", "no-store")
	path := strings.TrimSuffix(r.URL.Path, "/")
	res, known := b.redfish[path]
	if !known {
		res, known = b.sessionResource(path)
	}
	if !b.allowed(r, res) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Redfish"`)
		writeError(w, http.StatusUnauthorized, message{ID: "NoValidSession", Text: "There is no valid session established with the implementation."})
		return
	}
	if !known {
		writeError(w, http.StatusNotFound, message{ID: "ResourceMissingAtURI", Text: "The resource at the URI " + r.URL.Path + " was not found.", Args: []string{r.URL.Path}})
		return
	}
	b.dispatch(w, r, res)
}

func (b *BMC) dispatch(w http.ResponseWriter, r *http.Request, res resource) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRedfishBody))
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, message{ID: "PayloadTooLarge", Text: "The request body is too large."})
		return
	}
	switch {
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && res.get != nil:
		writeObject(w, r, http.StatusOK, res.get())
	case r.Method == http.MethodPatch && res.patch != nil:
		if res.get != nil && !ifMatch(r, res.get()) {
			writeError(w, http.StatusPreconditionFailed, message{ID: "PreconditionFailed", Text: "The ETag does not match."})
			return
		}
		res.patch(w, r, body)
	case r.Method == http.MethodPost && res.post != nil:
		res.post(w, r, body)
	case r.Method == http.MethodDelete && res.delete != nil:
		res.delete(w, r)
	default:
		w.Header().Set("Allow", res.methods())
		writeError(w, http.StatusMethodNotAllowed, message{ID: "OperationNotAllowed", Text: "The HTTP method is not allowed on this resource."})
	}
}

func (res resource) methods() string {
	var out []string
	for method, there := range map[string]bool{"GET, HEAD": res.get != nil, "PATCH": res.patch != nil, "POST": res.post != nil, "DELETE": res.delete != nil} {
		if there {
			out = append(out, method)
		}
	}
	return strings.Join(out, ", ")
}

// allowed tells whether a request may pass: by a session's token, by HTTP
// basic authentication, or because the resource is open to all.
func (b *BMC) allowed(r *http.Request, res resource) bool {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if (res.open && read) || (res.login && r.Method == http.MethodPost) {
		return true
	}
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		return b.sessions.use(token)
	}
	user, password, ok := r.BasicAuth()
	return ok && b.authentic(user, password)
}

func (b *BMC) authentic(user, password string) bool {
	want := b.cfg.Credentials
	same := subtle.ConstantTimeCompare([]byte(user), []byte(want.User))
	return same&subtle.ConstantTimeCompare([]byte(password), []byte(want.Password)) == 1
}

func ifMatch(r *http.Request, o object) bool {
	want := r.Header.Get("If-Match")
	if want == "" || want == "*" {
		return true
	}
	body, err := json.Marshal(o)
	return err == nil && want == etag(body)
}

func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func writeObject(w http.ResponseWriter, r *http.Request, status int, o object) {
	body, err := json.Marshal(o)
	if err != nil {
		writeError(w, http.StatusInternalServerError, message{ID: "InternalError", Text: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w.Header().Set("ETag", etag(body))
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone, and then nobody is left to tell
}

// message is one entry of Redfish's Base registry.
type message struct {
	ID   string
	Text string
	Args []string
}

func writeError(w http.ResponseWriter, status int, m message) {
	if m.Args == nil {
		m.Args = []string{}
	}
	id := "Base.1.18." + m.ID
	body, err := json.Marshal(object{"error": object{
		"code": id, "message": m.Text,
		"@Message.ExtendedInfo": []object{{
			"@odata.type": "#Message.v1_1_2.Message", "MessageId": id, "Message": m.Text,
			"MessageArgs": m.Args, "Severity": "Warning", "Resolution": "None.",
		}},
	}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// decode reads a request body into v and answers for a bad one itself.
func decode(w http.ResponseWriter, body []byte, v any) bool {
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			writeError(w, http.StatusBadRequest, message{ID: "PropertyValueTypeError", Text: "The property " + wrong.Field + " is of the wrong type.", Args: []string{wrong.Value, wrong.Field}})
			return false
		}
		writeError(w, http.StatusBadRequest, message{ID: "MalformedJSON", Text: "The request body is malformed JSON."})
		return false
	}
	return true
}
