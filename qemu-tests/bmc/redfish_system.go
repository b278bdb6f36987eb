package bmc

import (
	"errors"
	"net/http"
	"slices"
)

const systemPath = redfishRoot + "/Systems/1"

// resetTypes is the table from Redfish's reset types to the power actions.
var resetTypes = []struct {
	name   string
	action PowerAction
}{
	{"On", PowerOn},
	{"ForceOff", PowerOff},
	{"GracefulShutdown", PowerShutdown},
	{"GracefulRestart", PowerRestart},
	{"ForceRestart", PowerReset},
	{"PowerCycle", PowerCycle},
}

func resetNames() []string {
	var names []string
	for _, t := range resetTypes {
		names = append(names, t.name)
	}
	return names
}

func (b *BMC) system() object {
	m := &b.cfg.Machine
	power := "Off"
	if b.cfg.Server.On() {
		power = "On"
	}
	boot := b.Boot()
	return object{
		"@odata.id": systemPath, "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem", "Id": "1", "Name": m.Name,
		"SystemType": "Physical", "Manufacturer": m.Manufacturer, "Model": m.Product, "SKU": m.SKU,
		"SerialNumber": m.Serial, "PartNumber": m.Board.PartNumber, "AssetTag": m.AssetTag, "UUID": formatUUID(m.UUID),
		"HostName": "", "BiosVersion": m.BIOS.Version, "PowerState": power, "Status": healthy(),
		"Boot": object{
			"BootSourceOverrideEnabled": boot.Enabled, "BootSourceOverrideTarget": boot.Target, "BootSourceOverrideMode": boot.Mode,
			"BootSourceOverrideTarget@Redfish.AllowableValues":  bootTargets,
			"BootSourceOverrideEnabled@Redfish.AllowableValues": bootEnableds,
			"BootSourceOverrideMode@Redfish.AllowableValues":    bootModes,
		},
		"ProcessorSummary": object{
			"Count": len(m.CPUs), "LogicalProcessorCount": m.threads(), "Model": cpuModel(m), "Status": healthy(),
		},
		"MemorySummary":      object{"TotalSystemMemoryGiB": float64(m.memoryBytes()) / (1 << 30), "Status": healthy()},
		"Processors":         link(systemPath + "/Processors"),
		"Memory":             link(systemPath + "/Memory"),
		"Storage":            link(systemPath + "/Storage"),
		"EthernetInterfaces": link(systemPath + "/EthernetInterfaces"),
		"Links": object{
			"Chassis":   []object{link(chassisPath)},
			"ManagedBy": []object{link(managerPath)},
		},
		"Actions": object{"#ComputerSystem.Reset": object{
			"target":                            systemPath + "/Actions/ComputerSystem.Reset",
			"ResetType@Redfish.AllowableValues": resetNames(),
		}},
	}
}

func cpuModel(m *Machine) string {
	if len(m.CPUs) == 0 {
		return ""
	}
	return m.CPUs[0].Model
}

func (b *BMC) patchSystem(w http.ResponseWriter, r *http.Request, body []byte) {
	var req struct {
		Boot *struct {
			Target  *BootTarget  `json:"BootSourceOverrideTarget"`
			Enabled *BootEnabled `json:"BootSourceOverrideEnabled"`
			Mode    *BootMode    `json:"BootSourceOverrideMode"`
		}
	}
	if !decode(w, body, &req) {
		return
	}
	if req.Boot == nil {
		writeError(w, http.StatusBadRequest, message{ID: "PropertyNotWritable", Text: "Of this resource only Boot can be written.", Args: []string{"Boot"}})
		return
	}
	o := b.Boot()
	if !choose(w, "BootSourceOverrideTarget", req.Boot.Target, bootTargets, &o.Target) ||
		!choose(w, "BootSourceOverrideEnabled", req.Boot.Enabled, bootEnableds, &o.Enabled) ||
		!choose(w, "BootSourceOverrideMode", req.Boot.Mode, bootModes, &o.Mode) {
		return
	}
	if req.Boot.Target != nil && *req.Boot.Target != BootNone && req.Boot.Enabled == nil && o.Enabled == BootDisabled {
		o.Enabled = BootOnce // a target alone is meant for the next boot
	}
	if err := b.SetBoot(r.Context(), o); err != nil {
		writeError(w, http.StatusInternalServerError, message{ID: "InternalError", Text: err.Error()})
		return
	}
	writeObject(w, r, http.StatusOK, b.system())
}

// choose takes a property that the request has, when it is one of the allowed.
func choose[T ~string](w http.ResponseWriter, name string, got *T, allowed []T, into *T) bool {
	if got == nil {
		return true
	}
	if !slices.Contains(allowed, *got) {
		writeError(w, http.StatusBadRequest, message{
			ID:   "PropertyValueNotInList",
			Text: "The value '" + string(*got) + "' for the property " + name + " is not in the list of acceptable values.",
			Args: []string{string(*got), name},
		})
		return false
	}
	*into = *got
	return true
}

func (b *BMC) resetSystem(w http.ResponseWriter, r *http.Request, body []byte) {
	const name = "ComputerSystem.Reset"
	var req struct{ ResetType *string }
	if !decode(w, body, &req) {
		return
	}
	if req.ResetType == nil {
		writeError(w, http.StatusBadRequest, message{ID: "ActionParameterMissing", Text: "The action " + name + " requires that the parameter ResetType be present.", Args: []string{name, "ResetType"}})
		return
	}
	for _, t := range resetTypes {
		if t.name != *req.ResetType {
			continue
		}
		switch err := b.power(r.Context(), "redfish", t.action); {
		case errors.Is(err, ErrOff):
			writeError(w, http.StatusConflict, message{ID: "ResourceInUse", Text: "The server is off; " + t.name + " needs a running one."})
		case err != nil:
			writeError(w, http.StatusInternalServerError, message{ID: "InternalError", Text: err.Error()})
		default:
			w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	writeError(w, http.StatusBadRequest, message{
		ID:   "ActionParameterValueNotInList",
		Text: "The value '" + *req.ResetType + "' for the parameter ResetType in the action " + name + " is not in the list of acceptable values.",
		Args: []string{*req.ResetType, "ResetType", name},
	})
}
