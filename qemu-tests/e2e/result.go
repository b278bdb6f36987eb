package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Result is what stands in result.json.
type Result struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// Seconds is the whole test, JobSeconds up to both answers.
	Seconds    float64  `json:"seconds"`
	JobSeconds float64  `json:"job_seconds"`
	Nodes      []Node   `json:"nodes"`
	Proofs     []Proof  `json:"proofs"`
	Figures    *Figures `json:"figures,omitempty"`
}

// Figures are sizes that the run can see.
type Figures struct {
	FetchBytes int64 `json:"fetch_bytes"`
}

// Node is one server's part.
type Node struct {
	ID      string          `json:"id"`
	Serial  string          `json:"serial"`
	Name    string          `json:"name"`
	Via     string          `json:"via"`
	Nonce   string          `json:"nonce"`
	Seconds float64         `json:"seconds"` // from the power button to the answer
	Steps   []Step          `json:"steps"`
	Answer  json.RawMessage `json:"answer,omitempty"`
}

// Step is one line of a timeline.
type Step struct {
	Step    string    `json:"step"`
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"`
	Text    string    `json:"text,omitempty"`
}

// Proof is one thing that was broken, and what the system said to it.
type Proof struct {
	Name     string  `json:"name"`
	Evidence string  `json:"evidence"`
	Seconds  float64 `json:"seconds"`
}

func (r Result) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %v", path, err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
