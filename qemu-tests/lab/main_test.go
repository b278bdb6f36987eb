package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	MaybeInit()
	if name := os.Getenv(holdVariable); name != "" {
		os.Exit(hold(name))
	}
	if len(os.Args) > 1 && os.Args[1] == plainServeArg {
		fmt.Println(plainServe())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// plainServeArg makes the test binary a stand-in for `ingot serve`, which is of
// another tree: it listens where serve does and tells what it was given.
const plainServeArg = "plain-serve"

func plainServe() error {
	bus, err := net.Listen("tcp", fmt.Sprintf("%s:%d", serveAddress, natsPort))
	if err != nil {
		return err
	}
	defer bus.Close()
	web, err := net.Listen("tcp", fmt.Sprintf("%s:%d", serveAddress, httpPort))
	if err != nil {
		return err
	}
	if err := os.WriteFile(ContextFile, []byte(`{"key":"value"}`), 0o600); err != nil {
		return err
	}
	return http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/machines":
			http.ServeFile(w, r, MachinesFile)
		case "/bmc": // serve reaches the BMCs over the management network
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			resp, err := client.Get("https://10.78.0.12/redfish/v1/")
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(w, resp.Body)
		case "/pids":
			entries, _ := os.ReadDir("/proc")
			for _, e := range entries {
				if e.Name()[0] >= '0' && e.Name()[0] <= '9' {
					fmt.Fprintln(w, e.Name())
				}
			}
		}
	}))
}

// holdVariable makes the test binary a process that holds a lab, for tests
// that kill it.
const holdVariable = "INGOT_LAB_HOLD"

func hold(name string) int {
	l, err := Up(context.Background(), Options{Name: name, Tools: os.Getenv("INGOT_TOOLS"), SkipDoctor: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up", l.pid)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	select {
	case <-signals:
		err = l.Close()
	case <-l.Done():
		err = l.Wait()
	}
	fmt.Println("end", err)
	if err != nil {
		return 1
	}
	return 0
}

// testTools finds the unpacked tools; a test that needs them skips without,
// and in CI, where they are made first, it fails.
func testTools(t *testing.T) tools {
	t.Helper()
	dir := os.Getenv("INGOT_TOOLS")
	if dir == "" {
		dir = filepath.Join("..", "..", "build", "tools")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := toolsCheck(tools(dir)).err(); err != nil {
		lacking(t, err)
	}
	return tools(dir)
}

func toolsCheck(t tools) Check {
	return checkFiles("", "make build/tools/.stamp", t.files()...).named("tools")
}

// lacking skips a test for what the machine lacks.
func lacking(t *testing.T, what error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing in CI: %v", what)
	}
	t.Skipf("missing: %v", what)
}
