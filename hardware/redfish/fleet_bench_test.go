package redfish

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

const manyBMCs = 200

// TestServeManyBMCs is the other side of BenchmarkCrawl200, in a process of
// its own: it serves until its input ends.
func TestServeManyBMCs(t *testing.T) {
	if os.Getenv("INGOT_SERVE_BMCS") == "" {
		t.Skip("the benchmark of many BMCs starts this by itself")
	}
	for i := range manyBMCs {
		latency := 200*time.Millisecond + time.Duration(i)*3*time.Millisecond
		fmt.Println("BMC", serveSlowly(t, recordedTree(t, "dell-r750"), latency, benchWorkers, benchLimit).front.URL)
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n') // until it is closed
}

// BenchmarkCrawl200 crawls 200 BMCs at once, against the time of the slowest
// alone. The memory is the most that this process ever had.
func BenchmarkCrawl200(b *testing.B) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeManyBMCs$", "-test.v")
	cmd.Env = append(os.Environ(), "INGOT_SERVE_BMCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		in.Close()
		cmd.Wait()
	}()
	var urls []string
	for s := bufio.NewScanner(out); s.Scan() && s.Text() != "ready"; {
		if u, ok := strings.CutPrefix(s.Text(), "BMC "); ok {
			urls = append(urls, u)
		}
	}
	if len(urls) != manyBMCs {
		b.Fatalf("%d BMCs are up", len(urls))
	}
	go func() { // what the child says at its end
		for s := bufio.NewScanner(out); s.Scan(); {
		}
	}()
	crawl := func(url string) Stats {
		r, err := Crawl(b.Context(), Options{URL: url, User: user, Password: password, Insecure: true})
		if err != nil || len(r.Views) != 1 || len(r.Views[0].Inventory.DIMMs) != 4 {
			b.Errorf("%s: %d views, %v", url, len(r.Views), err)
		}
		return r.Stats
	}
	slowest := crawl(urls[len(urls)-1]).Took
	for b.Loop() {
		begin := time.Now()
		var wg sync.WaitGroup
		for _, u := range urls {
			wg.Go(func() { crawl(u) })
		}
		wg.Wait()
		b.ReportMetric(time.Since(begin).Seconds()/slowest.Seconds(), "x-slowest")
	}
	b.ReportMetric(slowest.Seconds(), "slowest-s")
	b.ReportMetric(float64(peakMiB(b)), "peak-MiB")
}

// peakMiB is the most memory that this process ever had resident.
func peakMiB(tb testing.TB) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
