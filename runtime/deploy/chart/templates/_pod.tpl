{{/* The specification of a pod: Pod Security "restricted". */}}
{{- define "careen.pod" -}}
{{- $v := .Values -}}
{{- if and $v.velero.all (not $v.velero.enabled) }}
{{- fail "velero.all needs the rights of velero.enabled" }}
{{- end }}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: {{ $v.velero.enabled }}
restartPolicy: Never
terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
enableServiceLinks: false
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if not $v.openshift }}
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- if $v.plugins.compile }}
initContainers:
  - name: compile-plugins
    image: {{ include "careen.image" . }}
    imagePullPolicy: {{ $v.image.pullPolicy }}
    args:
      - plugin
      - compile
      - --plugin-cache=/scratch/plugins
      {{- range $v.plugins.compile }}
      - {{ printf "/plugin-files/%s" . | quote }}
      {{- end }}
    env:
      {{- include "careen.memory" "compile-plugins" | nindent 6 }}
    resources:
      {{- include "careen.resources" (dict "cpu" $v.cpu "memory" $v.plugins.compileMemory) | nindent 6 }}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    securityContext:
      {{- include "careen.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - name: scratch
        mountPath: /scratch
      - name: plugin-files
        mountPath: /plugin-files
        readOnly: true
{{- end }}
containers:
  - name: careen
    image: {{ include "careen.image" . }}
    imagePullPolicy: {{ $v.image.pullPolicy }}
    args:
      {{- if $v.velero.all }}
      - velero
      - run
      - --all
      - --namespace={{ .Release.Namespace }}
      {{- else }}
      - run
      - $(CAREEN_REPOSITORY)
      {{- with $v.owner }}
      - --owner={{ . }}
      {{- end }}
      - --password-file=/secrets/repository/{{ $v.password.key }}
      {{- if $v.credentials.secret }}
      - --credentials-file=/secrets/cloud/{{ $v.credentials.key }}
      {{- end }}
      {{- if $v.ca.configMap }}
      - --ca-file=/ca/{{ $v.ca.key }}
      {{- end }}
      {{- end }}
      {{- if eq $v.scratch.type "emptyDir" }}
      - --scratch-quota={{ $v.scratch.quota }}
      {{- end }}
      {{- if $v.plugins.compile }}
      - --plugin-cache=/scratch/plugins
      {{- end }}
      {{- with $v.metrics.push }}
      - --metrics-push={{ . }}
      {{- end }}
      {{- range $v.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    envFrom:
      - configMapRef:
          name: {{ .Release.Name }}
    env:
      {{- include "careen.memory" "careen" | nindent 6 }}
      - name: CAREEN_RETRY_LOCK
        value: {{ $v.retryLock | quote }}
      - name: CAREEN_STRATEGIES
        value: /strategies/strategies.toml
      {{- if hasKey . "AtOnce" }}
      # Now, whatever the settings say.
      - name: CAREEN_JITTER
        value: "0"
      {{- end }}
    resources:
      {{- include "careen.resources" (dict "cpu" $v.cpu "memory" $v.memory) | nindent 6 }}
    terminationMessagePath: /dev/termination-log
    terminationMessagePolicy: File
    securityContext:
      {{- include "careen.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - name: scratch
        mountPath: /scratch
      - name: strategies
        mountPath: /strategies
        readOnly: true
      {{- if not $v.velero.all }}
      - name: repository-password
        mountPath: /secrets/repository
        readOnly: true
      {{- if $v.credentials.secret }}
      - name: cloud-credentials
        mountPath: /secrets/cloud
        readOnly: true
      {{- end }}
      {{- if $v.ca.configMap }}
      - name: ca
        mountPath: /ca
        readOnly: true
      {{- end }}
      {{- end }}
      {{- if $v.plugins.volume }}
      - name: plugin-files
        mountPath: /plugin-files
        readOnly: true
      {{- end }}
volumes:
  - name: scratch
    {{- if eq $v.scratch.type "emptyDir" }}
    emptyDir:
      sizeLimit: {{ $v.scratch.size }}
    {{- else }}
    ephemeral:
      volumeClaimTemplate:
        spec:
          accessModes: [ReadWriteOnce]
          {{- with $v.scratch.storageClassName }}
          storageClassName: {{ . }}
          {{- end }}
          resources:
            requests:
              storage: {{ $v.scratch.size }}
    {{- end }}
  - name: strategies
    configMap:
      name: {{ .Release.Name }}-strategies
  {{- if not $v.velero.all }}
  - name: repository-password
    secret:
      secretName: {{ $v.password.secret }}
      defaultMode: 288
  {{- if $v.credentials.secret }}
  - name: cloud-credentials
    secret:
      secretName: {{ $v.credentials.secret }}
      defaultMode: 288
  {{- end }}
  {{- with $v.ca.configMap }}
  - name: ca
    configMap:
      name: {{ . }}
  {{- end }}
  {{- end }}
  {{- with $v.plugins.volume }}
  - name: plugin-files
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
