package tpm

import (
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/ingot-metal/ingot/hardware"
)

// properties are TPM_PT_FIXED (TPM 2.0 part 2, 6.13) from the family on.
func properties(t transport.TPM) ([]byte, error) {
	return capability(t, tpm2.TPMCapTPMProperties, uint32(tpm2.TPMPTFamilyIndicator), 16)
}

// pcrs are the selected PCRs of each bank.
func pcrs(t transport.TPM) ([]byte, error) { return capability(t, tpm2.TPMCapPCRs, 0, 1) }

func capability(t transport.TPM, what tpm2.TPMCap, from, count uint32) ([]byte, error) {
	r, err := tpm2.GetCapability{Capability: what, Property: from, PropertyCount: count}.Execute(t)
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(r.CapabilityData), nil
}

// unmarshal is a capability out of an answer. A panic of the decoder is an
// error.
func unmarshal(b []byte) (data *tpm2.TPMSCapabilityData, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decode capability: panic: %v", p)
		}
	}()
	if data, err = tpm2.Unmarshal[tpm2.TPMSCapabilityData](b); err != nil {
		return nil, fmt.Errorf("decode capability: %w", err)
	}
	return data, nil
}

func decodeProperties(b []byte, t *hardware.TPM) error {
	if len(b) == 0 {
		return nil
	}
	data, err := unmarshal(b)
	if err != nil {
		return err
	}
	list, err := data.Data.TPMProperties()
	if err != nil {
		return fmt.Errorf("decode properties: %w", err)
	}
	has := map[tpm2.TPMPT]uint32{}
	for _, p := range list.TPMProperty {
		has[p.Property] = p.Value
	}
	t.Manufacturer = vendor(has[tpm2.TPMPTManufacturer])
	if v, ok := has[tpm2.TPMPTFirmwareVersion1]; ok {
		low := has[tpm2.TPMPTFirmwareVersion2]
		t.Firmware = fmt.Sprintf("%d.%d.%d.%d", v>>16, v&0xffff, low>>16, low&0xffff)
	}
	return nil
}

// bankNames are the hash algorithms of banks.
var bankNames = map[tpm2.TPMIAlgHash]string{
	tpm2.TPMAlgSHA1: "sha1", tpm2.TPMAlgSHA256: "sha256", tpm2.TPMAlgSHA384: "sha384", tpm2.TPMAlgSHA512: "sha512", 0x12: "sm3-256",
}

func decodePCRs(b []byte) ([]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	data, err := unmarshal(b)
	if err != nil {
		return nil, err
	}
	list, err := data.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("decode PCR banks: %w", err)
	}
	var out []string
	for _, s := range list.PCRSelections {
		if name := bankNames[s.Hash]; name != "" && strings.Trim(string(s.PCRSelect), "\x00") != "" {
			out = append(out, name)
		}
	}
	return out, nil
}
