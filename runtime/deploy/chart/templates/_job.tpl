{{- define "careen.labels" -}}
app.kubernetes.io/name: careen
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "careen.allLabels" -}}
{{ include "careen.labels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "careen.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "careen.schedule" -}}
{{- $minute := mod (adler32sum (printf "%s/%s" .Release.Namespace .Release.Name)) 60 -}}
{{- regexReplaceAll "^M " .Values.schedule (printf "%d " $minute) -}}
{{- end -}}

{{- define "careen.resources" -}}
requests:
  cpu: {{ .cpu }}
  memory: {{ .memory }}
limits:
  cpu: {{ .cpu }}
  memory: {{ .memory }}
{{- end -}}

{{- define "careen.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "careen.memory" -}}
- name: CAREEN_MEMORY
  valueFrom:
    resourceFieldRef:
      containerName: {{ . }}
      resource: limits.memory
{{- end -}}

{{/* The specification of a Job. */}}
{{- define "careen.job" -}}
backoffLimit: {{ .Values.backoffLimit }}
activeDeadlineSeconds: {{ .Values.activeDeadlineSeconds }}
ttlSecondsAfterFinished: {{ .Values.ttlSecondsAfterFinished }}
# Retried a few times only after 10 (part done) and 30 (the storage failed); an eviction does not count.
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob
      onExitCodes:
        containerName: careen
        operator: In
        values: [20, 40, 50, 60]
    {{- if .Values.plugins.compile }}
    - action: FailJob
      onExitCodes:
        containerName: compile-plugins
        operator: In
        values: [20, 40, 50, 60]
    {{- end }}
    - action: Count
      onExitCodes:
        containerName: careen
        operator: In
        values: [10, 30]
template:
  metadata:
    labels:
      {{- include "careen.allLabels" . | nindent 6 }}
      {{- with .Values.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .Values.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "careen.pod" . | nindent 4 }}
{{- end -}}
